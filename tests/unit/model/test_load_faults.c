/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Every allocation and every read of opening and loading a model fails once:
 * each time the failure is reported, and nothing leaks (seen under ASan). */
#include "model_fixture.h"

#include <sys/wait.h>

#include "ptq/model/forward.h"
#include "ptq/num/blas.h"

/* Everything a forward pass needs, and its release. */
static ptq_status load_all(const char *dir, ptq_compute compute, ptq_err *err) {
  ptq_status rc = PTQ_OK;
  ptq_model *m = NULL;
  ptq_block b = {0};
  ptq_head head = {0};
  ptq_embedding e = {0};
  ptq_workspace *ws = NULL;
  char hex[PTQ_HASH_HEX];
  if (compute == PTQ_COMPUTE_BF16) {
    PTQ_TRY(ptq_blas_init(err));
    PTQ_TRY(ptq_bf16_init(err));
  }
  PTQ_TRY(ptq_model_open(dir, &m, err));
  PTQ_TRY(ptq_model_fingerprint(m, hex, err));
  PTQ_TRY(ptq_model_set_compute(m, compute, err));
  PTQ_TRY(ptq_model_load_embedding(m, &e, err));
  PTQ_TRY(ptq_model_load_block(m, 1, &b, err));
  PTQ_TRY(ptq_model_load_head(m, &head, err));
  PTQ_TRY(ptq_workspace_create(ptq_model_get_info(m), 40, &ws, err));
done:
  ptq_workspace_free(ws);
  ptq_head_release(&head);
  ptq_block_release(&b);
  ptq_embedding_release(&e);
  ptq_model_close(m);
  return rc;
}

/* In a child, because the fault to inject is read once a process. Exits 0 on
 * success, 2 on a reported failure, 3 on one without a message; sanitizers
 * and crashes give other codes. */
static int run_child(const char *dir, ptq_compute compute, int nth) {
  const pid_t pid = fork();
  if (pid == 0) {
    char text[16];
    ptq_err err = {0};
    snprintf(text, sizeof text, "%d", nth);
    if (setenv("PTQ_FAIL_NTH", text, 1) != 0) _exit(9);
    const ptq_status rc = load_all(dir, compute, &err);
    const int code = rc == PTQ_OK         ? 0
                     : err.code != rc     ? 3
                     : err.msg[0] == '\0' ? 3
                                          : 2;
    exit(code); /* not _exit: leaks are looked for at exit */
  }
  int status = 0;
  assert_true(pid > 0);
  assert_int_equal(waitpid(pid, &status, 0), pid);
  return WIFEXITED(status) ? WEXITSTATUS(status) : 99;
}

static void every_failing_operation_is_reported(void (*make)(fx_model *),
                                                ptq_compute compute) {
  fx_model m;
  make(&m);
  fx_write(&m);
  int nth = 1, code = 2;
  for (; nth < 1000 && code != 0; nth++) {
    code = run_child(m.dir, compute, nth);
    if (code != 0 && code != 2)
      fail_msg("operation %d failing ends with %d", nth, code);
  }
  fx_end(&m);
  assert_int_equal(code, 0);
  assert_true(nth > 50); /* faults were injected at all */
}

static void a_llama_loads_or_says_why_not(void **state) {
  (void)state;
  every_failing_operation_is_reported(fx_llama, PTQ_COMPUTE_F32);
}

static void an_opt_loads_or_says_why_not(void **state) {
  (void)state;
  every_failing_operation_is_reported(fx_opt, PTQ_COMPUTE_F32);
}

static void packed_weights_load_or_say_why_not(void **state) {
  (void)state;
  every_failing_operation_is_reported(fx_llama, PTQ_COMPUTE_BF16);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(a_llama_loads_or_says_why_not),
      cmocka_unit_test(an_opt_loads_or_says_why_not),
      cmocka_unit_test(packed_weights_load_or_say_why_not),
  };
  return cmocka_run_group_tests_name("model/load_faults", tests, NULL, NULL);
}
