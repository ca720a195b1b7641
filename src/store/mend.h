/* SPDX-License-Identifier: GPL-3.0-or-later */
/**
 * @file mend.h
 * What a killed writer or a damaged disk left, made good before a run goes on
 * with the store. By one rank; the others have agreed to wait.
 */
#ifndef PTQ_STORE_MEND_H
#define PTQ_STORE_MEND_H

#include "sets.h"

/** Rows without a result become as a new store has them (`fresh`, one C row
 * each); so do those that are `bad`, which wait again. */
ptq_status ptq_mend_rows(const ptq_sets *s, ptq_set_id rows_id,
                         ptq_set_id state_id, ptq_set_id sum_id,
                         const void *fresh, const unsigned char *bad,
                         ptq_err *err);
/** PTQ_E_FORMAT when an index is damaged, with which results would be taken for
 * bad and go to wrong places; a warning for other damage beside the rows.
 * Before anything is mended. */
ptq_status ptq_mend_refuse(const ptq_sets *s, ptq_err *err);
/** Checksums of finished profiles' rows; attempts and the log, with a word
 * where something is lost. */
ptq_status ptq_mend_rest(const ptq_sets *s, ptq_err *err);

#endif /* PTQ_STORE_MEND_H */
