"""How S3 servers say that they take no more: their disk is full, or a quota is used up.

S3 itself never is, so each server has words of its own:

    507 XMinioStorageFull                  MinIO, its disk nearly full
    400 XMinioAdminBucketQuotaExceeded     MinIO, the bucket's hard quota (`mc quota set`)
    500 InternalError, "no space left…"    MinIO, its disk full to the last byte
    403 QuotaExceeded                      Ceph's radosgw, versitygw
    500 InternalError                      SeaweedFS, which gives no reason; `Bucket.is_full` finds it out

Sources: minio/minio, cmd/api-errors.go; Ceph, src/rgw/rgw_common.cc; SeaweedFS 4.48, on a full disk.
"""

from http import HTTPStatus

CODES = frozenset(
    {"XMinioStorageFull", "XMinioAdminBucketQuotaExceeded", "QuotaExceeded", "InsufficientStorage"}
)
NO_SPACE = "no space left"
"""The kernel's words (ENOSPC), where a server passes them on."""


def says_full(status: int, code: str, message: str = "") -> bool:
    """Whether an answer, by its HTTP status and S3's code and message, says that nothing more is taken."""
    return (
        status == HTTPStatus.INSUFFICIENT_STORAGE
        or code in CODES
        or (status >= HTTPStatus.INTERNAL_SERVER_ERROR and NO_SPACE in message.lower())
    )
