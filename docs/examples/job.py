"""A job that states what it intends and what became of it: `python docs/examples/job.py` prints what was stated."""

from __future__ import annotations

from producers.kit import Actor, Audit, BusinessObject, Result
from producers.kit.jobs import job
from producers.samples.emitter import SampleEmitter

emitter = SampleEmitter()  # an AuditProducer, in earnest
audit = Audit(emitter, "crm")


def in_part(left: int) -> Result:
    """Of what the job returns: how many rows it left."""
    return Result.PARTIAL if left else Result.SUCCESS


@job(audit, "nightly-clean-up", result=in_part, tenant="acme", actor=Actor.system("scheduler"))
def clean_up(rows: int) -> int:
    """What is stated inside is caused by the run."""
    audit.retention.applied(BusinessObject("table", "drafts"))
    return rows % 2


if __name__ == "__main__":
    clean_up(3)
    for event in emitter.events:
        print(event["event_name"], event["result"], event["effect"])
