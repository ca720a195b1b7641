/* SPDX-License-Identifier: GPL-3.0-or-later */
#include "protocol.h"

#include <stddef.h>
#include <string.h>

#include "ptq/base/mem.h"
#include "ptq/comm/nap.h"

/* Grows with every change of a message's meaning. */
enum { WIRE_VERSION = 4 };

static uint32_t version_word(void) {
  const uint32_t sizes =
      (uint32_t)(sizeof(ptq_wire_report) * 31 + sizeof(ptq_wire_work) * 7 +
                 sizeof(ptq_wire_stop) + sizeof(ptq_wire_leave));
  return 0x51000000U + (uint32_t)WIRE_VERSION * 0x10000U + (sizes & 0xffffU);
}

ptq_wire_head ptq_wire_make_head(ptq_wire_kind kind, int64_t task_id) {
  return (ptq_wire_head){
      .version = version_word(), .kind = (uint32_t)kind, .task_id = task_id};
}

static int least_size(uint32_t kind) {
  switch (kind) {
    case PTQ_WIRE_HELLO:
    case PTQ_WIRE_BEAT:
    case PTQ_WIRE_POINT:
    case PTQ_WIRE_SUBJECT:
    case PTQ_WIRE_DONE:
    case PTQ_WIRE_BYE:
      return (int)offsetof(ptq_wire_report, text) + 1;
    case PTQ_WIRE_WORK:
      return (int)sizeof(ptq_wire_work);
    case PTQ_WIRE_CANCEL:
    case PTQ_WIRE_PONG:
    case PTQ_WIRE_ORPHAN:
      return (int)sizeof(ptq_wire_head);
    case PTQ_WIRE_STOP:
      return (int)sizeof(ptq_wire_stop);
    case PTQ_WIRE_LEAVE:
      return (int)sizeof(ptq_wire_leave);
    default:
      return -1;
  }
}

ptq_status ptq_wire_check(const ptq_wire_head *head, int size, int rank,
                          ptq_err *err) {
  if (size < (int)sizeof *head || head->version != version_word())
    return PTQ_FAIL(err, PTQ_E_PEER,
                    "rank %d speaks another version of the protocol: start "
                    "the same program on every rank",
                    rank);
  const int least = least_size(head->kind);
  if (least < 0 || size < least)
    return PTQ_FAIL(err, PTQ_E_PEER,
                    "message of kind %lu and %d bytes from rank %d",
                    (unsigned long)head->kind, size, rank);
  return PTQ_OK;
}

int ptq_wire_report_size(const ptq_wire_report *r) {
  return (int)(offsetof(ptq_wire_report, text) + strlen(r->text) + 1);
}

ptq_status ptq_wire_mpi(int code, const char *what, ptq_err *err) {
  char text[MPI_MAX_ERROR_STRING] = "";
  int length = 0;
  if (code == MPI_SUCCESS) return PTQ_OK;
  MPI_Error_string(code, text, &length);
  return PTQ_FAIL(err, PTQ_E_PEER, "MPI, %s: %.200s", what, text);
}

ptq_status ptq_wire_post(MPI_Comm comm, int rank, const void *data, int size,
                         MPI_Request *request, ptq_err *err) {
  if (ptq_fault()) return PTQ_FAIL(err, PTQ_E_PEER, "MPI, sending: a test");
  return ptq_wire_mpi(
      MPI_Isend(data, size, MPI_BYTE, rank, PTQ_WIRE_TAG, comm, request),
      "sending a message", err);
}

ptq_status ptq_wire_probe(MPI_Comm comm, int rank, int *source, int *size,
                          ptq_err *err) {
  MPI_Status status;
  int there = 0;
  *source = -1;
  *size = 0;
  const int code = MPI_Iprobe(rank, PTQ_WIRE_TAG, comm, &there, &status);
  if (code != MPI_SUCCESS) return ptq_wire_mpi(code, "probing", err);
  if (!there) return PTQ_OK;
  *source = status.MPI_SOURCE;
  return ptq_wire_mpi(MPI_Get_count(&status, MPI_BYTE, size), "probing", err);
}

void ptq_wire_probe_any(MPI_Comm comm, int first, int *source, int *size) {
  int n = 0;
  if (ptq_wire_probe(comm, MPI_ANY_SOURCE, source, size, NULL) == PTQ_OK)
    return;
  *source = -1;
  (void)MPI_Comm_size(comm, &n);
  for (int rank = first; rank < n && *source < 0; rank++)
    if (ptq_wire_probe(comm, rank, source, size, NULL) != PTQ_OK) *source = -1;
}

/** Wait for a request; PTQ_E_PEER after `limit_s`. The request then stays:
 * its peer is as good as dead, and what is half sent cannot be cancelled. */
static ptq_status await(MPI_Request *request, double limit_s, const char *what,
                        int rank, ptq_err *err) {
  ptq_nap nap = {0};
  double start = 0.0;
  for (;;) {
    int done = 0;
    const int code = MPI_Test(request, &done, MPI_STATUS_IGNORE);
    if (code != MPI_SUCCESS) return ptq_wire_mpi(code, what, err);
    if (done) return PTQ_OK;
    const double now = ptq_nap_clock();
    if (start == 0.0) start = now;
    if (now - start > limit_s)
      return PTQ_FAIL(err, PTQ_E_PEER, "%s: rank %d fell silent within it",
                      what, rank);
    ptq_nap_take(&nap);
  }
}

ptq_status ptq_wire_is_sent(MPI_Request *request, bool *sent, ptq_err *err) {
  int done = 0;
  const int code = MPI_Test(request, &done, MPI_STATUS_IGNORE);
  *sent = done != 0;
  return ptq_wire_mpi(code, "sending a message", err);
}

ptq_status ptq_wire_send(MPI_Comm comm, int rank, const void *data, int size,
                         double limit_s, ptq_err *err) {
  MPI_Request request = MPI_REQUEST_NULL;
  const ptq_status rc = ptq_wire_post(comm, rank, data, size, &request, err);
  if (rc != PTQ_OK) return rc;
  return await(&request, limit_s, "sending a message", rank, err);
}

ptq_status ptq_wire_receive(MPI_Comm comm, int source, void *data, int size,
                            double limit_s, ptq_err *err) {
  MPI_Request request = MPI_REQUEST_NULL;
  if (ptq_fault()) return PTQ_FAIL(err, PTQ_E_PEER, "MPI, receiving: a test");
  const int code =
      MPI_Irecv(data, size, MPI_BYTE, source, PTQ_WIRE_TAG, comm, &request);
  if (code != MPI_SUCCESS) return ptq_wire_mpi(code, "receiving", err);
  return await(&request, limit_s, "receiving a message", source, err);
}
