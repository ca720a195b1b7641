/* SPDX-License-Identifier: GPL-3.0-or-later */
/* sigaltstack is an X/Open extension of POSIX.1-2008. */
#define _XOPEN_SOURCE 700
#include "lastwords.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <unistd.h>

#include "attempt.h"
#include "pack.h"
#include "ptq/base/mem.h"

enum { N_DEADLY = 5, STACK_BYTES = 65536, MESSAGE_BYTES = 240 };

/* clang-format off */
static const struct { int number; const char *name; } deadly[N_DEADLY] = {
  {SIGSEGV, "SIGSEGV (invalid memory access)"},
  {SIGBUS,  "SIGBUS (memory or a mapped file that is not there)"},
  {SIGFPE,  "SIGFPE (arithmetic error)"},
  {SIGILL,  "SIGILL (instruction this CPU does not know)"},
  {SIGABRT, "SIGABRT (abort)"},
};
/* clang-format on */

/* A signal handler has nowhere else to look. */
static ptq_words *volatile speaker;
static struct sigaction before[N_DEADLY];
/* Own stack: the signal may come of a stack that overflowed. */
static char stack[STACK_BYTES];
static stack_t stack_before;

/* strcat is not promised to be safe here. */
static size_t append(char *text, size_t at, const char *more) {
  while (*more != '\0' && at + 1 < MESSAGE_BYTES) text[at++] = *more++;
  return at;
}

static void speak(const ptq_words *w, const char *name) {
  static const unsigned char unsealed[4]; /* the row has no checksum now */
  char text[MESSAGE_BYTES] = {0};
  size_t used = append(text, 0, name);
  (void)append(text, used,
               w->alone ? " while running it alone" : " in a batch with it");
  for (int64_t i = 0; i < w->n; i++) {
    if (w->rows[i] < 0) continue;
    const off_t row = w->at + (off_t)w->rows[i] * (off_t)w->row_bytes;
    ssize_t n = pwrite(w->fd, unsealed, sizeof unsealed,
                       w->sums_at + (off_t)sizeof unsealed * w->rows[i]);
    n = pwrite(w->fd, text, sizeof text, row + w->message_at);
    if (n > 0 && w->alone)
      n = pwrite(w->fd, w->next_deaths, sizeof w->next_deaths,
                 row + w->deaths_at);
    (void)n; /* nobody is left to hear of it */
  }
}

static void die(int number, siginfo_t *info, void *context) {
  const int error = errno;
  ptq_words *w = speaker;
  (void)context;
  for (int i = 0; i < N_DEADLY; i++) {
    if (deadly[i].number != number) continue;
    if (w != NULL && w->armed && w->fd >= 0) {
      w->armed = 0;
      speak(w, deadly[i].name);
    }
    (void)sigaction(number, &before[i], NULL);
  }
  /* A fault happens again on return; what was sent must be sent again. */
  if (info->si_code <= 0) (void)raise(number);
  errno = error;
}

static void catch_signals(void) {
  struct sigaction action;
  const stack_t own = {.ss_sp = stack, .ss_size = sizeof stack};
  (void)sigaltstack(&own, &stack_before);
  memset(&action, 0, sizeof action);
  action.sa_sigaction = die;
  action.sa_flags = SA_SIGINFO | SA_ONSTACK;
  sigemptyset(&action.sa_mask);
  for (int i = 0; i < N_DEADLY; i++)
    (void)sigaction(deadly[i].number, &action, &before[i]);
}

static void release_signals(void) {
  for (int i = 0; i < N_DEADLY; i++)
    (void)sigaction(deadly[i].number, &before[i], NULL);
  (void)sigaltstack(&stack_before, NULL);
}

ptq_status ptq_words_init(ptq_words *words, const char *path, ptq_err *err) {
  *words = (ptq_words){.fd = -1};
  words->fd = ptq_fault() ? -1 : open(path, O_WRONLY | O_CLOEXEC);
  if (words->fd < 0)
    return PTQ_FAIL(err, PTQ_E_IO, "store '%s': cannot open it for writing: %s",
                    path, strerror(errno));
  speaker = words;
  catch_signals();
  return PTQ_OK;
}

void ptq_words_release(ptq_words *words) {
  words->armed = 0;
  if (speaker == words) {
    speaker = NULL;
    release_signals();
  }
  if (words->fd >= 0) (void)close(words->fd);
  words->fd = -1;
  ptq_free(words->rows);
  words->rows = NULL;
}

ptq_status ptq_words_arm(ptq_words *words, const ptq_sets *sets, ptq_set_id id,
                         const int64_t *rows, int64_t n, int64_t deaths,
                         ptq_err *err) {
  ptq_status rc = PTQ_OK;
  const ptq_table *t = ptq_table_get(PTQ_TABLE_ATTEMPTS);
  ptq_pack_column columns[16];
  words->armed = 0;
  const ptq_h5_set *attempts = &sets->set[id];
  const haddr_t at = H5Dget_offset(attempts->id);
  const haddr_t sums_at = H5Dget_offset(sets->set[ptq_attempt_sums(id)].id);
  if (at == HADDR_UNDEF || sums_at == HADDR_UNDEF)
    PTQ_TRY(ptq_h5_fail(err, PTQ_E_IO, attempts->path, "no place of",
                        attempts->name));
  if (n > words->cap) {
    PTQ_TRY(ptq_grow(&words->rows, words->cap, n, sizeof *words->rows,
                     "running points", err));
    words->cap = n;
  }
  memcpy(words->rows, rows, (size_t)n * sizeof *rows);
  ptq_pack_columns(t, columns);
  words->deaths_at =
      (off_t)columns[ptq_table_field(t, "deaths") - t->fields].offset;
  words->message_at =
      (off_t)columns[ptq_table_field(t, "message") - t->fields].offset;
  _Static_assert(sizeof((ptq_attempt_row *)NULL)->message == MESSAGE_BYTES,
                 "the whole text is written at once");
  words->n = n;
  words->alone = n == 1;
  words->at = (off_t)at;
  words->sums_at = (off_t)sums_at;
  words->row_bytes = attempts->row_bytes;
  ptq_pack_i64(words->next_deaths, deaths + 1);
  words->armed = 1;
done:
  return rc;
}

void ptq_words_finish(ptq_words *words, int64_t row) {
  for (int64_t i = 0; words->armed && i < words->n; i++)
    if (words->rows[i] == row) words->rows[i] = -1;
}

void ptq_words_disarm(ptq_words *words) {
  words->armed = 0;
}
