"""Events from an application's log: `python docs/examples/log.py` logs twice and prints what was stated."""

from __future__ import annotations

import logging

from producers.kit import Act, Actor, Audit, BusinessObject, Effect, EventType, Result
from producers.kit.logs import AuditHandler
from producers.samples.emitter import SampleEmitter

emitter = SampleEmitter()  # an AuditProducer, in earnest
audit = Audit(emitter, "crm")
log = logging.getLogger("crm")
log.setLevel(logging.INFO)
log.addHandler(AuditHandler(audit))

RULE = BusinessObject("routing-rule", "r-7")
SWITCHED_OFF = Act(
    "config.changed", EventType.ADMIN, Result.SUCCESS, Effect.EFFECTIVE, RULE, compared=({"enabled": True}, {"enabled": False})
)

if __name__ == "__main__":
    with audit.context(tenant="acme", actor=Actor.user("ada@acme.example")):
        log.info("rule %s switched off", "r-7", extra={"audit": SWITCHED_OFF})
        log.info("nothing that anybody audits")
    for event in emitter.events:
        print(event["event_name"], event["changes"][0]["path"], event["changes"][0]["after"])
