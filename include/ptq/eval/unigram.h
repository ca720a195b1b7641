/* SPDX-License-Identifier: GPL-3.0-or-later */
/**
 * @file unigram.h
 * The unigram model: what a point must beat not to count as collapsed.
 */
#ifndef PTQ_EVAL_UNIGRAM_H
#define PTQ_EVAL_UNIGRAM_H

#include <stdint.h>

#include "ptq/base/status.h"

/**
 * Mean NLL, nats a token, of the scored positions (first[w]..end[w]-1 of each
 * window w; NULL: from 1, to its length) under token frequencies of the whole
 * calibration text with add-one smoothing over the vocabulary.
 * @param calib [n_calib] ids of the calibration text
 * @param windows [n_windows, length] ids of the evaluation windows
 */
ptq_status ptq_unigram_nll(const uint32_t *calib, int64_t n_calib,
                           const uint32_t *windows, const int64_t *first,
                           const int64_t *end, int64_t n_windows,
                           int64_t length, int64_t vocab, double *nll,
                           ptq_err *err);

#endif /* PTQ_EVAL_UNIGRAM_H */
