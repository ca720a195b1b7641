/* SPDX-License-Identifier: GPL-3.0-or-later */
/* model.safetensors.index.json over two shards: one.safetensors with tensors
 * a and b, two.safetensors with c. */
#include <string.h>

#include "fuzz.h"
#include "weights.h"

static void write_shard(const char *name, const char *header, size_t data) {
  unsigned char all[512] = {0};
  const size_t n = strlen(header);
  all[0] = (unsigned char)n;
  memcpy(all + 8, header, n);
  fuzz_write(name, all, 8 + n + data);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
  static int ready = 0;
  ptq_weights *w = NULL;
  if (!ready)
    write_shard("one.safetensors",
                "{\"a\":{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[0,8]"
                "},\"b\":{\"dtype\":\"F16\",\"shape\":[1],"
                "\"data_offsets\":[8,10]}}",
                10);
  if (!ready)
    write_shard("two.safetensors",
                "{\"c\":{\"dtype\":\"F32\",\"shape\":[],"
                "\"data_offsets\":[0,4]}}",
                4);
  ready = 1;
  fuzz_write("model.safetensors.index.json", data, size);
  if (ptq_weights_open(fuzz_dir(), &w, NULL) != PTQ_OK) return 0;
  (void)ptq_weights_find(w, "a");
  ptq_weights_close(w);
  return 0;
}
