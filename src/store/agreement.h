/* SPDX-License-Identifier: GPL-3.0-or-later */
/**
 * @file agreement.h
 * Do finished rows of two stores say the same?
 */
#ifndef PTQ_STORE_AGREEMENT_H
#define PTQ_STORE_AGREEMENT_H

#include "source.h"

/** Bit by bit: results of the row, its layers and windows (a model: its
 * windows and spectra). `how` says where they differ. Rows' own numbers of
 * points and subjects do not count, nor columns that a store of a lower schema
 * has no numbers of. PTQ_E_IO, PTQ_E_NOMEM. */
ptq_status ptq_agreement_bits(const ptq_source *a, int64_t row_a,
                              const ptq_source *b, int64_t row_b, bool model,
                              char how[160], bool *agree, ptq_err *err);

/** The same of two directions. */
ptq_status ptq_agreement_direction(const ptq_source *a, int64_t row_a,
                                   const ptq_source *b, int64_t row_b,
                                   char how[160], bool *agree, ptq_err *err);

/** Every number of the row within `tolerance` of the other's, over max(1, |a|,
 * |b|). */
bool ptq_agreement_close(const ptq_source *a, int64_t row_a,
                         const ptq_source *b, int64_t row_b, bool model,
                         double tolerance, char how[160]);

#endif /* PTQ_STORE_AGREEMENT_H */
