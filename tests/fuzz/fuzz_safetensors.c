/* SPDX-License-Identifier: GPL-3.0-or-later */
/* A safetensors file: header, and every tensor that can be read. */
#include "fuzz.h"
#include "ptq/base/mem.h"
#include "safetensors.h"

enum { ELEMENTS_MAX = 1 << 16 };

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
  static float out[ELEMENTS_MAX];
  char path[2 * FUZZ_PATH];
  ptq_safetensors st;
  fuzz_write("model.safetensors", data, size);
  fuzz_path("model.safetensors", path);
  if (ptq_safetensors_open(path, &st, NULL) != PTQ_OK) return 0;
  for (int64_t i = 0; i < st.n; i++)
    if (st.tensors[i].count <= ELEMENTS_MAX)
      (void)ptq_tensor_read(&st.tensors[i], out, NULL);
  ptq_safetensors_close(&st);
  return 0;
}
