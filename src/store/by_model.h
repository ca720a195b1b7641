/* SPDX-License-Identifier: GPL-3.0-or-later */
/**
 * @file by_model.h
 * The landscape once more by model, for whoever opens the file without this
 * program: /landscape/<model>/directions, state, profiles, layers and ritz are
 * virtual datasets, the model's rows of those of the same names in /landscape.
 * They hold no data, and this program reads none of them.
 */
#ifndef PTQ_STORE_BY_MODEL_H
#define PTQ_STORE_BY_MODEL_H

#include <hdf5.h>

#include "ptq/store/store.h"

/** One process, while it creates the file; `path` names it in errors. A group
 * is named by its model, and where several subjects share one, or it is the
 * name of a dataset, by model and row of /models, as in "name@3". */
ptq_status ptq_by_model_create(hid_t file, const char *path,
                               const ptq_store_layout *layout, ptq_err *err);

#endif /* PTQ_STORE_BY_MODEL_H */
