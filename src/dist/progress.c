/* SPDX-License-Identifier: GPL-3.0-or-later */
#include "progress.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static const double terminal_period_s = 0.25, log_period_s = 10.0;

void ptq_progress_init(ptq_progress *p, bool on, double now_s) {
  const char *asked = getenv("PTQSWEEP_TERMINAL");
  *p = (ptq_progress){.on = on, .start_s = now_s};
  p->terminal =
      asked != NULL ? strcmp(asked, "1") == 0 : isatty(STDERR_FILENO) == 1;
  p->next_s = now_s + (p->terminal ? terminal_period_s : log_period_s);
}

bool ptq_progress_due(const ptq_progress *p, double now_s) {
  return p->on && now_s >= p->next_s;
}

static void duration_text(char *text, size_t size, double seconds) {
  const long s = (long)(seconds + 0.5);
  if (s < 86400)
    snprintf(text, size, "%ld:%02ld:%02ld", s / 3600, s / 60 % 60, s % 60);
  else
    snprintf(text, size, "%ldd %ldh", s / 86400, s / 3600 % 24);
}

void ptq_progress_text(char *text, size_t size, const ptq_progress_state *state,
                       double elapsed_s) {
  const bool points = state->points > 0;
  const int64_t all = points ? state->points : state->items;
  const int64_t done =
      points ? state->points_done + state->points_failed : state->items_done;
  char eta[32] = "unknown", rate[48] = "", also[64] = "";
  if (state->ranks > 0)
    duration_text(eta, sizeof eta, state->left_s / (double)state->ranks);
  if (elapsed_s > 0.0 && done > 0) {
    const double per_s = (double)done / elapsed_s;
    if (per_s >= 0.1)
      snprintf(rate, sizeof rate, ", %.3g/s", per_s);
    else
      snprintf(rate, sizeof rate, ", %.3g/min", 60.0 * per_s);
  }
  if (points && state->items_failed > 0)
    snprintf(also, sizeof also, ", %lld of the models' items failed",
             (long long)state->items_failed);
  snprintf(text, size, "%lld of %lld %s, %lld failed%s%s, ETA %s, %lld rank%s",
           (long long)done, (long long)all, points ? "points" : "items",
           (long long)(points ? state->points_failed : state->items_failed),
           also, rate, eta, (long long)state->ranks,
           state->ranks == 1 ? "" : "s");
}

void ptq_progress_show(ptq_progress *p, const ptq_progress_state *state,
                       double now_s) {
  char text[160];
  if (!p->on) return;
  ptq_progress_text(text, sizeof text, state, now_s - p->start_s);
  if (p->terminal)
    fprintf(stderr, "\r%s\033[K", text);
  else
    fprintf(stderr, "%s\n", text);
  fflush(stderr);
  p->shown = p->terminal;
  p->next_s = now_s + (p->terminal ? terminal_period_s : log_period_s);
}

void ptq_progress_clear(ptq_progress *p) {
  if (!p->shown) return;
  fputs("\r\033[K", stderr);
  fflush(stderr);
  p->shown = false;
}

void ptq_progress_end(ptq_progress *p, const ptq_progress_state *state,
                      double now_s) {
  ptq_progress_show(p, state, now_s);
  if (p->shown) fputc('\n', stderr);
  p->shown = false;
}
