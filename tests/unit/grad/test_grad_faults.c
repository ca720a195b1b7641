/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Every allocation, read and file of a gradient, a trace, eigenvalues and a
 * density fails once: each time the failure is reported, and nothing leaks
 * (seen under ASan). */
#include "grad_fixture.h"

#include <sys/wait.h>

#include "ptq/num/lanczos.h"

enum { WINDOWS = 2, LENGTH = 7 };

static ptq_status everything(const char *dir, const uint32_t *ids,
                             ptq_err *err) {
  ptq_status rc = PTQ_OK;
  ptq_model *m = NULL;
  ptq_grad *g = NULL;
  ptq_ritz r = {0};
  ptq_quadrature q = {0};
  ptq_estimate whole, by_layer[2 * PTQ_ROLE_COUNT];
  PTQ_TRY(ptq_model_open(dir, &m, err));
  const ptq_grad_setup setup = {.model = m,
                                .ids = ids,
                                .n_windows = WINDOWS,
                                .length = LENGTH,
                                .max_tangents = 2};
  PTQ_TRY(ptq_grad_create(&setup, &g, err));
  PTQ_TRY(ptq_curvature_trace(g, PTQ_CURVATURE_HESSIAN, 1, 2, &whole, by_layer,
                              err));
  const ptq_operator h = ptq_hessian_operator(g);
  const ptq_lanczos_setup steps = {.n = h.n, .max_steps = 2, .scratch = "."};
  PTQ_TRY(ptq_lanczos_run(&h, &steps, 1, 1, 0, 0.0, &r, err));
  PTQ_TRY(ptq_quadrature_run(&h, &steps, 1, 2, &q, err));
done:
  ptq_ritz_release(&r);
  ptq_quadrature_release(&q);
  ptq_grad_free(g);
  ptq_model_close(m);
  return rc;
}

/* In a child, because the fault to inject is read once a process. Exits 0 on
 * success, 2 on a reported failure, 3 on one without a message; sanitizers
 * and crashes give other codes. */
static int run_child(const char *dir, const uint32_t *ids, int nth) {
  const pid_t pid = fork();
  if (pid == 0) {
    char text[16];
    ptq_err err = {0};
    snprintf(text, sizeof text, "%d", nth);
    if (setenv("PTQ_FAIL_NTH", text, 1) != 0) _exit(9);
    const ptq_status rc = everything(dir, ids, &err);
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

static void every_failing_operation_is_reported(void **state) {
  (void)state;
  fx_model m;
  gf_small(&m);
  fx_write(&m);
  uint32_t ids[WINDOWS * LENGTH];
  for (uint32_t i = 0; i < WINDOWS * LENGTH; i++) ids[i] = 3 * i % 20;
  int nth = 1, code = 2;
  for (; nth < 1000 && code != 0; nth++) {
    code = run_child(m.dir, ids, nth);
    if (code != 0 && code != 2)
      fail_msg("operation %d failing ends with %d", nth, code);
  }
  fx_end(&m);
  assert_int_equal(code, 0);
  assert_true(nth > 100); /* faults were injected at all */
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(every_failing_operation_is_reported),
  };
  return cmocka_run_group_tests_name("grad/grad_faults", tests, NULL, NULL);
}
