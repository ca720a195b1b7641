/* SPDX-License-Identifier: GPL-3.0-or-later */
/**
 * @file byte_windows.h
 * Windows that score the same bytes of a text whatever the tokenizer.
 */
#ifndef PTQ_SWEEP_BYTE_WINDOWS_H
#define PTQ_SWEEP_BYTE_WINDOWS_H

#include "ptq/sweep/tokens.h"

/** Cut text->windows windows of text->scoring.bytes bytes each: window i
 * scores the tokens between the first ends of words at or behind i and i + 1
 * times that many bytes, behind the token before them. `out` is of the length
 * of the longest one, others have their last token again behind their end.
 * Errors as ptq_windows_cut; PTQ_E_UNSUPPORTED: no token ends where a word
 * does. On failure *out is the caller's to release. */
ptq_status ptq_byte_windows_cut(const ptq_text_spec *text,
                                const ptq_tokens *tokens, ptq_windows *out,
                                ptq_err *err);

#endif /* PTQ_SWEEP_BYTE_WINDOWS_H */
