/* SPDX-License-Identifier: GPL-3.0-or-later */
#include "ptq/comm/meet.h"

#include "ptq/base/check.h"
#include "ptq/base/text.h"
#include "ptq/comm/nap.h"
#include "ptq/comm/startup.h"

ptq_status ptq_meet_failed(int code, const char *what, ptq_err *err) {
  char text[MPI_MAX_ERROR_STRING] = "unknown MPI error";
  int length = 0;
  if (code == MPI_SUCCESS) return PTQ_OK;
  if (MPI_Error_string(code, text, &length) != MPI_SUCCESS)
    (void)ptq_text_copy(text, sizeof text, "unknown MPI error");
  return PTQ_FAIL(err, PTQ_E_PEER, "%s: %.200s", what, text);
}

/* `code` is of the call that made the request. */
static ptq_status await(int code, MPI_Request *request, const char *what,
                        ptq_err *err) {
  ptq_nap nap = {0};
  int done = 0;
  for (;;) {
    if (code == MPI_SUCCESS) code = MPI_Test(request, &done, MPI_STATUS_IGNORE);
    if (code != MPI_SUCCESS) return ptq_meet_failed(code, what, err);
    if (done) return PTQ_OK;
    ptq_startup_look();
    ptq_nap_take(&nap);
  }
}

ptq_status ptq_meet_bcast(MPI_Comm comm, void *data, int64_t n,
                          MPI_Datatype type, int root, const char *what,
                          ptq_err *err) {
  MPI_Request request = MPI_REQUEST_NULL;
  const int code = MPI_Ibcast(data, ptq_int(n), type, root, comm, &request);
  return await(code, &request, what, err);
}

ptq_status ptq_meet_allreduce(MPI_Comm comm, void *inout, int64_t n,
                              MPI_Datatype type, MPI_Op op, const char *what,
                              ptq_err *err) {
  MPI_Request request = MPI_REQUEST_NULL;
  const int code =
      MPI_Iallreduce(MPI_IN_PLACE, inout, ptq_int(n), type, op, comm, &request);
  return await(code, &request, what, err);
}

ptq_status ptq_meet_allgather(MPI_Comm comm, const void *mine, int64_t n,
                              void *all, const char *what, ptq_err *err) {
  MPI_Request request = MPI_REQUEST_NULL;
  const int code = MPI_Iallgather(mine, ptq_int(n), MPI_BYTE, all, ptq_int(n),
                                  MPI_BYTE, comm, &request);
  return await(code, &request, what, err);
}

ptq_status ptq_meet_dup(MPI_Comm comm, MPI_Comm *out, ptq_err *err) {
  MPI_Request request = MPI_REQUEST_NULL;
  const int code = MPI_Comm_idup(comm, out, &request);
  return await(code, &request, "duplicating the communicator", err);
}
