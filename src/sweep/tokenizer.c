/* SPDX-License-Identifier: GPL-3.0-or-later */
#include "tokenizer.h"

#include <inttypes.h>

#include "ptq/base/file.h"
#include "ptq/base/mem.h"
#include "ptq/base/npy.h"
#include "ptq/base/text.h"
#include "ptq/sweep/tokens.h"

/* Files that stand beside tokenizer.json, in the order of their hashes. */
static const char *const settings_files[] = {"special_tokens_map.json",
                                             "tokenizer_config.json"};

/* The hash of a file as text, "" where there is none. */
static ptq_status hash_beside(const char *dir, const char *name,
                              char hex[PTQ_HASH_HEX], ptq_err *err) {
  ptq_status rc = PTQ_OK;
  char *path = NULL;
  hex[0] = '\0';
  PTQ_TRY(ptq_path_join(dir, name, &path, err));
  if (ptq_path_exists(path)) PTQ_TRY(ptq_hash_file(path, hex, err));
done:
  ptq_free(path);
  return rc;
}

static ptq_status add_settings(const char *dir, ptq_hash *h, ptq_err *err) {
  ptq_status rc = PTQ_OK;
  char hex[PTQ_HASH_HEX];
  for (size_t i = 0; i < sizeof settings_files / sizeof settings_files[0];
       i++) {
    PTQ_TRY(hash_beside(dir, settings_files[i], hex, err));
    ptq_hash_text(h, hex);
  }
done:
  return rc;
}

ptq_status ptq_tokenizer_settings(const char *model_dir, char hex[PTQ_HASH_HEX],
                                  ptq_err *err) {
  ptq_hash *h = NULL;
  ptq_status rc = ptq_hash_create(&h, err);
  if (rc == PTQ_OK) rc = add_settings(model_dir, h, err);
  if (rc == PTQ_OK) ptq_hash_hex(h, hex);
  ptq_hash_free(h);
  return rc;
}

ptq_status ptq_tokenizer_hash(const char *model_dir, char hex[PTQ_HASH_HEX],
                              ptq_err *err) {
  ptq_status rc = PTQ_OK;
  ptq_hash *h = NULL;
  char *path = NULL, own[PTQ_HASH_HEX];
  PTQ_TRY(ptq_path_join(model_dir, "tokenizer.json", &path, err));
  PTQ_TRY(ptq_hash_file(path, own, err));
  PTQ_TRY(ptq_hash_create(&h, err));
  ptq_hash_text(h, own);
  PTQ_TRY(add_settings(model_dir, h, err));
  ptq_hash_hex(h, hex);
done:
  ptq_hash_free(h);
  ptq_free(path);
  return rc;
}

/* Beginning and end of text, -1 where there is none. */
static ptq_status pick(const char *path, const char *model_dir,
                       const ptq_npy *special, int64_t vocab, uint32_t *out,
                       ptq_err *err) {
  const int64_t *ids = special->data;
  if (special->n != 2 || ids[0] < -1 || ids[1] < -1)
    return PTQ_FAIL(err, PTQ_E_FORMAT,
                    "'%s' is damaged; remove it and run sweeps/prepare.py "
                    "again",
                    path);
  const int64_t id = ids[0] >= 0 ? ids[0] : ids[1];
  if (id < 0)
    return PTQ_FAIL(err, PTQ_E_UNSUPPORTED,
                    "preset 'lm-eval' puts a beginning- or end-of-text token "
                    "in front, and '%s/tokenizer_config.json' names neither",
                    model_dir);
  if (id >= vocab)
    return PTQ_FAIL(err, PTQ_E_FORMAT,
                    "token %" PRId64 ", which '%s/tokenizer_config.json' "
                    "names, is beyond the vocabulary (%" PRId64 ")",
                    id, model_dir, vocab);
  *out = (uint32_t)id;
  return PTQ_OK;
}

ptq_status ptq_tokenizer_prefix(const char *spec_path, const char *model_dir,
                                int64_t vocab, uint32_t *out, ptq_err *err) {
  ptq_status rc = PTQ_OK;
  char *dir = NULL, hex[PTQ_HASH_HEX];
  ptq_text path = {0};
  ptq_npy special = {0};
  PTQ_TRY(ptq_tokens_dir(spec_path, &dir, err));
  PTQ_TRY(ptq_tokenizer_hash(model_dir, hex, err));
  ptq_text_addf(&path, "%s/%s.special.npy", dir, hex);
  if (path.rc != PTQ_OK) PTQ_TRY(PTQ_FAIL(err, PTQ_E_NOMEM, "a path"));
  if (!ptq_path_exists(path.buf))
    PTQ_TRY(PTQ_FAIL(err, PTQ_E_IO,
                     "no special tokens of model '%s' in '%s'; make them with: "
                     "python3 sweeps/prepare.py %s (./run.sh sweep does it)",
                     model_dir, dir, spec_path));
  PTQ_TRY(ptq_npy_read(path.buf, PTQ_NPY_I64, 1, &special, err));
  PTQ_TRY(pick(path.buf, model_dir, &special, vocab, out, err));
done:
  ptq_npy_release(&special);
  ptq_text_release(&path);
  ptq_free(dir);
  return rc;
}
