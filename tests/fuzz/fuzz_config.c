/* SPDX-License-Identifier: GPL-3.0-or-later */
/* config.json, whatever architecture it names, beside the weights of a small
 * LLaMA; where they fit, a block is loaded and run. */
#include "fuzz.h"
#include "ptq/base/mem.h"
#include "ptq/model/forward.h"

enum { TOKENS = 5 };

static void run_block(ptq_model *m) {
  const ptq_model_info *info = ptq_model_get_info(m);
  ptq_workspace *ws = NULL;
  ptq_block b;
  float *h = NULL;
  if (ptq_model_load_block(m, 0, &b, NULL) != PTQ_OK) return;
  if (ptq_alloc(&h, TOKENS * info->d_model, sizeof *h, "h", NULL) == PTQ_OK &&
      ptq_workspace_create(info, TOKENS, &ws, NULL) == PTQ_OK)
    (void)ptq_block_forward(info, &b, h, TOKENS, ws, NULL, PTQ_SITE_COUNT,
                            NULL);
  ptq_workspace_free(ws);
  ptq_free(h);
  ptq_block_release(&b);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
  static int ready = 0;
  ptq_model *m = NULL;
  if (!ready) {
    char path[2 * FUZZ_PATH];
    fuzz_path("model.safetensors", path);
    if (symlink(PTQ_SOURCE_DIR
                "/tests/golden/architectures/llama/model.safetensors",
                path) != 0)
      abort();
    ready = 1;
  }
  fuzz_write("config.json", data, size);
  if (ptq_model_open(fuzz_dir(), &m, NULL) != PTQ_OK) return 0;
  (void)ptq_forward_flops(ptq_model_get_info(m), TOKENS, true);
  (void)ptq_model_block_bytes(ptq_model_get_info(m));
  run_block(m);
  ptq_model_close(m);
  return 0;
}
