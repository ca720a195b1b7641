/* SPDX-License-Identifier: GPL-3.0-or-later */
#include "ptq/base/hash.h"

#include <stdio.h>
#include <string.h>
#include <xxhash.h>

#include "ptq/base/file.h"
#include "ptq/base/mem.h"

struct ptq_hash {
  XXH3_state_t *state; /* owned */
};

static void to_hex(XXH128_hash_t h, char hex[PTQ_HASH_HEX]) {
  XXH128_canonical_t c;
  XXH128_canonicalFromHash(&c, h);
  for (int i = 0; i < 16; i++) snprintf(hex + 2 * i, 3, "%02x", c.digest[i]);
}

ptq_status ptq_hash_create(ptq_hash **out, ptq_err *err) {
  const ptq_status rc = ptq_alloc(out, 1, sizeof **out, "a hash state", err);
  if (rc != PTQ_OK) return rc;
  (*out)->state = XXH3_createState();
  if ((*out)->state == NULL) {
    ptq_free(*out);
    *out = NULL;
    return PTQ_FAIL(err, PTQ_E_NOMEM, "a hash state");
  }
  (void)XXH3_128bits_reset((*out)->state);
  return PTQ_OK;
}

void ptq_hash_update(ptq_hash *h, const void *data, size_t size) {
  if (size > 0) (void)XXH3_128bits_update(h->state, data, size);
}

void ptq_hash_text(ptq_hash *h, const char *s) {
  ptq_hash_update(h, s, strlen(s) + 1);
}

void ptq_hash_hex(const ptq_hash *h, char hex[PTQ_HASH_HEX]) {
  to_hex(XXH3_128bits_digest(h->state), hex);
}

void ptq_hash_free(ptq_hash *h) {
  if (h == NULL) return;
  (void)XXH3_freeState(h->state);
  ptq_free(h);
}

void ptq_hash_buffer(const void *data, size_t size, char hex[PTQ_HASH_HEX]) {
  to_hex(XXH3_128bits(data, size), hex);
}

ptq_status ptq_hash_file(const char *path, char hex[PTQ_HASH_HEX],
                         ptq_err *err) {
  enum { PIECE = 1 << 20 };
  ptq_status rc = PTQ_OK;
  ptq_file *file = NULL;
  ptq_hash *hash = NULL;
  char *buf = NULL;
  hex[0] = '\0';
  PTQ_TRY(ptq_file_open(path, &file, err));
  PTQ_TRY(ptq_hash_create(&hash, err));
  PTQ_TRY(ptq_alloc(&buf, PIECE, 1, "a read buffer", err));
  const int64_t size = ptq_file_size(file);
  for (int64_t at = 0; at < size; at += PIECE) {
    const size_t n = (size_t)(size - at < PIECE ? size - at : PIECE);
    PTQ_TRY(ptq_file_pread(file, at, buf, n, err));
    ptq_hash_update(hash, buf, n);
  }
  ptq_hash_hex(hash, hex);
done:
  ptq_free(buf);
  ptq_hash_free(hash);
  ptq_file_close(file);
  return rc;
}

uint64_t ptq_hash64(const void *data, size_t size) {
  return XXH3_64bits(data, size);
}
