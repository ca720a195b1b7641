/* SPDX-License-Identifier: GPL-3.0-or-later */
/**
 * @file sites.h
 * The spectra that a subject's item produces: one row a site, with and
 * without the first position of each window.
 */
#ifndef PTQ_SWEEP_SITES_H
#define PTQ_SWEEP_SITES_H

#include "ptq/model/model.h"

enum { PTQ_SPECTRA_ROWS = 2 * PTQ_SITE_COUNT };

/** Name of row i in the store: "attn_in", ..., "attn_in_nofirst", ... */
const char *ptq_spectra_name(int i);
/** Site of row i. */
ptq_site ptq_spectra_site(int i);

#endif /* PTQ_SWEEP_SITES_H */
