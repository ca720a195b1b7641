/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Eigenvalues and eigenvectors of symmetric matrices. */
#include <math.h>

#include "ptq/base/check.h"
#include "ptq/base/mem.h"
#include "ptq/num/blas.h"

/* LAPACK through its Fortran symbols: not every OpenBLAS carries LAPACKE. The
 * hidden lengths of character arguments are passed as size_t, as gfortran
 * does; compilers that pass none ignore them. */
void dsyevr_(const char *jobz, const char *range, const char *uplo,
             const int *n, double *a, const int *lda, const double *vl,
             const double *vu, const int *il, const int *iu,
             const double *abstol, int *m, double *w, double *z, const int *ldz,
             int *isuppz, double *work, const int *lwork, int *iwork,
             const int *liwork, int *info, size_t jobz_len, size_t range_len,
             size_t uplo_len);

static bool upper_is_finite(const double *a, int64_t n) {
  for (int64_t i = 0; i < n; i++)
    for (int64_t j = i; j < n; j++)
      if (!isfinite(a[i * n + j])) return false;
  return true;
}

/* The `count` largest eigenvalues, ascending into w; with vectors where v is
 * not NULL, in the same order, the rows of v. */
static ptq_status largest(double *a, int64_t n, int64_t count, double *w,
                          double *v, ptq_err *err) {
  if (!upper_is_finite(a, n))
    return PTQ_FAIL(err, PTQ_E_NUMERIC,
                    "eigenvalues of a %lld x %lld matrix with NaN or infinity",
                    (long long)n, (long long)n);
  ptq_status rc = PTQ_OK;
  const int order = ptq_int(n), query = -1, want = ptq_int(count);
  const int first = order - want + 1, ldz = v != NULL ? order : 1;
  const char *jobz = v != NULL ? "V" : "N", *range = want < order ? "I" : "A";
  const double zero = 0.0;
  double *work = NULL, work_size = 0.0, none = 0.0;
  double *z = v != NULL ? v : &none;
  int *iwork = NULL, *support = NULL, iwork_size = 0, found = 0, info = 0;
  PTQ_TRY(ptq_alloc(&support, 2 * n, sizeof *support, "dsyevr supports", err));
  /* The upper triangle by rows is the lower triangle by columns. */
  dsyevr_(jobz, range, "L", &order, a, &order, &zero, &zero, &first, &order,
          &zero, &found, w, z, &ldz, support, &work_size, &query, &iwork_size,
          &query, &info, 1, 1, 1);
  const int n_work = (int)work_size;
  PTQ_TRY(ptq_alloc(&work, n_work, sizeof *work, "dsyevr work", err));
  PTQ_TRY(ptq_alloc(&iwork, iwork_size, sizeof *iwork, "dsyevr work", err));
  dsyevr_(jobz, range, "L", &order, a, &order, &zero, &zero, &first, &order,
          &zero, &found, w, z, &ldz, support, work, &n_work, iwork, &iwork_size,
          &info, 1, 1, 1);
  if (info != 0 || found != want)
    rc = PTQ_FAIL(err, PTQ_E_NUMERIC,
                  "dsyevr found %d of %d eigenvalues (info %d)", found, want,
                  info);
done:
  ptq_free(work);
  ptq_free(iwork);
  ptq_free(support);
  return rc;
}

static void swap(double *a, double *b, int64_t n) {
  for (int64_t i = 0; i < n; i++) {
    const double t = a[i];
    a[i] = b[i];
    b[i] = t;
  }
}

ptq_status ptq_eigenvalues(double *a, int64_t n, double *w, ptq_err *err) {
  if (n == 0) return PTQ_OK;
  const ptq_status rc = largest(a, n, n, w, NULL, err);
  for (int64_t i = 0; rc == PTQ_OK && i < n / 2; i++)
    swap(w + i, w + n - 1 - i, 1); /* LAPACK's order is ascending */
  return rc;
}

ptq_status ptq_eigenvectors(double *a, int64_t n, int64_t count, double *w,
                            double *v, ptq_err *err) {
  PTQ_ASSERT(count > 0 && count <= n);
  const ptq_status rc = largest(a, n, count, w, v, err);
  for (int64_t i = 0; rc == PTQ_OK && i < count / 2; i++) {
    swap(w + i, w + count - 1 - i, 1);
    swap(v + i * n, v + (count - 1 - i) * n, n);
  }
  return rc;
}
