/* SPDX-License-Identifier: GPL-3.0-or-later */
#include "ptq/eval/unigram.h"

#include <math.h>

#include "ptq/base/mem.h"

static ptq_status check_ids(const uint32_t *ids, int64_t n, int64_t vocab,
                            const char *what, ptq_err *err) {
  for (int64_t i = 0; i < n; i++)
    if ((int64_t)ids[i] >= vocab)
      return PTQ_FAIL(err, PTQ_E_ARG,
                      "%s: token %lld is %lu, the vocabulary has %lld", what,
                      (long long)i, (unsigned long)ids[i], (long long)vocab);
  return PTQ_OK;
}

ptq_status ptq_unigram_nll(const uint32_t *calib, int64_t n_calib,
                           const uint32_t *windows, const int64_t *first,
                           const int64_t *end, int64_t n_windows,
                           int64_t length, int64_t vocab, double *nll,
                           ptq_err *err) {
  ptq_status rc = PTQ_OK;
  int64_t *counts = NULL;
  *nll = NAN;
  if (n_windows < 1 || length < 2)
    return PTQ_FAIL(err, PTQ_E_ARG,
                    "unigram NLL of %lld windows of %lld tokens: nothing is "
                    "scored",
                    (long long)n_windows, (long long)length);
  PTQ_TRY(check_ids(calib, n_calib, vocab, "calibration text", err));
  PTQ_TRY(
      check_ids(windows, n_windows * length, vocab, "evaluation windows", err));
  PTQ_TRY(ptq_alloc(&counts, vocab, sizeof *counts, "token counts", err));
  for (int64_t i = 0; i < n_calib; i++) counts[calib[i]]++;
  double sum_ln = 0.0;
  int64_t scored = 0;
  for (int64_t w = 0; w < n_windows; w++)
    for (int64_t i = first != NULL ? first[w] : 1,
                 stop = end != NULL ? end[w] : length;
         i < stop; i++, scored++)
      sum_ln += log((double)(counts[windows[w * length + i]] + 1));
  *nll = log((double)(n_calib + vocab)) - sum_ln / (double)scored;
done:
  ptq_free(counts);
  return rc;
}
