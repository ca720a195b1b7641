/* SPDX-License-Identifier: GPL-3.0-or-later */
/**
 * @file tokenizer.h
 * What stands beside a model's tokenizer.json: hashes, and its first and last
 * tokens as sweeps/prepare.py found them.
 */
#ifndef PTQ_SWEEP_TOKENIZER_H
#define PTQ_SWEEP_TOKENIZER_H

#include <stdint.h>

#include "ptq/base/hash.h"

/** Hash of tokenizer_config.json and special_tokens_map.json (absent ones
 * count as such), for keys. */
ptq_status ptq_tokenizer_settings(const char *model_dir, char hex[PTQ_HASH_HEX],
                                  ptq_err *err);
/** Hash of these and tokenizer.json: what prepare.py calls S. */
ptq_status ptq_tokenizer_hash(const char *model_dir, char hex[PTQ_HASH_HEX],
                              ptq_err *err);

/** The token that lm-eval puts in front of a text: the tokenizer's
 * beginning-of-text token, or else its end-of-text token, from
 * <S>.special.npy in the cache. PTQ_E_IO: not prepared; PTQ_E_UNSUPPORTED: the
 * tokenizer has neither; PTQ_E_FORMAT: damaged, or beyond the vocabulary. */
ptq_status ptq_tokenizer_prefix(const char *spec_path, const char *model_dir,
                                int64_t vocab, uint32_t *out, ptq_err *err);

#endif /* PTQ_SWEEP_TOKENIZER_H */
