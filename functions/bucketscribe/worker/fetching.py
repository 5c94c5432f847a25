"""The first stage of a run whose recording is online: it is fetched into the bucket, and judged."""

from ..errors import Problem
from ..fetch import FetchFailed, FetchRefused
from ..online import Online
from ..records import Failure
from ..transcriptions import Claim, LeaseLost
from ..uploads import REFUSALS
from .endings import RunFailed
from .status import Status, Stopped

STAGE = "fetching"


def fetched(online: Online, claim: Claim, status: Status) -> Claim:
    """The claim on the run whose recording stands in the bucket now.

    Raises RunFailed, Stopped, UploadGone where others have ended the download, and botocore's errors.
    """
    try:
        claim = online.fetch(claim, status.reporter(STAGE), status.stop.wait)
    except (FetchFailed, FetchRefused) as error:
        raise RunFailed(Failure(code=error.code, message=str(error), stage=STAGE)) from error
    except Problem as problem:
        if problem.code not in REFUSALS:
            # Too many were changing the record: another attempt is as good.
            raise Stopped from problem
        raise RunFailed(Failure(code=problem.code, message=problem.detail, stage=STAGE)) from problem
    except LeaseLost as lost:
        raise Stopped from lost
    status.recording_fetched()
    return claim
