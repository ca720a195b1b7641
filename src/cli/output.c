/* SPDX-License-Identifier: GPL-3.0-or-later */
#include "output.h"

#include "ptq/base/file.h"
#include "ptq/store/netcdf.h"

ptq_status ptq_output_check(const char *path, const char *const *inputs, int n,
                            ptq_err *err) {
  for (int i = 0; path != NULL && i < n; i++)
    if (inputs[i] != NULL && ptq_path_same(path, inputs[i]))
      return PTQ_FAIL(err, PTQ_E_ARG,
                      "output '%s' is the input '%s' itself, which would be "
                      "lost; name another file",
                      path, inputs[i]);
  return PTQ_OK;
}

ptq_status ptq_output_check_file(const char *path, const char *const *inputs,
                                 int n, ptq_err *err) {
  const ptq_status rc = ptq_output_check(path, inputs, n, err);
  if (rc != PTQ_OK || path == NULL || ptq_netcdf_may_replace(path)) return rc;
  return PTQ_FAIL(err, PTQ_E_ARG,
                  "output '%s' is a store or another HDF5 file, which would be "
                  "lost; name another file, or remove it first",
                  path);
}
