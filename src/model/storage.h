/* SPDX-License-Identifier: GPL-3.0-or-later */
/**
 * @file storage.h
 * Element types of checkpoints and their conversion to float32.
 */
#ifndef PTQ_MODEL_STORAGE_H
#define PTQ_MODEL_STORAGE_H

#include "safetensors.h"

/** The type of that spelling, NULL if there is none. */
const ptq_storage *ptq_storage_find(const char *name);
/** Comma-separated spellings of the types that can be read as float32. */
const char *ptq_storage_readable(void);

#endif /* PTQ_MODEL_STORAGE_H */
