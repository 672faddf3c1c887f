// Step 13: the runs of the emitters (§9), over all contents of all chains.
import { Refused, sha256 } from './avro.mjs';
import { parseSession, SCHEMA } from './records.mjs';

const STATEMENT = Buffer.from('sealtrail/run/v1\n');

function opens({ emitter, extension, event_name: name }, chain, seq, keyring) {
  if (name !== 'emitter.open' || extension?.schema.toString('hex') !== SCHEMA.runSession) return false;
  let session;
  try { session = parseSession(extension.payload); } catch (e) {
    if (e instanceof Refused) return false;
    throw e;
  }
  const { run } = session;
  const cert = keyring.find('source', session.key_id.toString('hex'));
  const at = BigInt(run.epoch.readUIntBE(0, 6)) * 1000n;
  return Boolean(cert && cert.name === run.source && cert.covers(at) && seq < keyring.limit(cert.id, chain)
    && cert.key.verifies(Buffer.concat([STATEMENT, session.statement]), session.signature)
    && sha256(session.wrapped_key).equals(run.wrapped_key_digest)
    && run.source === emitter.source && run.instance === emitter.instance && run.epoch.equals(emitter.epoch)
    && chain.startsWith(`${run.audience}.`));
}

const runOf = (who, epoch) => `${who}/${epoch.toString('hex')}`;

// chains: Map(chain -> { contents, allRead })
export function checkRuns(chains, keyring) {
  const findings = [];
  const homes = new Map();
  for (const [chain, { contents, allRead }] of chains) {
    const say = (finding, seq, count = 1) => findings.push({ finding, step: 13, chain, seq, count });
    const runs = new Map();
    const get = (id) => {
      if (!runs.has(id)) runs.set(id, { events: new Map(), seen: new Map() });
      return runs.get(id);
    };
    for (const { seq, seal, value } of contents) {
      if (seal.kind === 'EVENT') {
        const { emitter } = value;
        const id = runOf(`${emitter.source}/${emitter.instance}`, emitter.epoch);
        const run = get(id);
        if (!homes.has(id)) homes.set(id, chain);
        else if (homes.get(id) !== chain && !run.events.size) say('INSERTED', seq);
        if (run.events.has(emitter.seq)) { say('INSERTED', seq); continue; }
        run.events.set(emitter.seq, { seq, value });
        run.seen.set(emitter.seq, seq);
        if (emitter.seq === 0n && !opens(value, chain, seq, keyring)) say('BAD-SIGNATURE', seq);
      } else if (seal.kind === 'REJECTED' && seal.reason !== 'SEQUENCE_WILD') {
        const { emitter, epoch, number } = value;
        if (emitter === null || epoch === null || number === null) continue;
        const { seen } = get(runOf(emitter, epoch));
        if (!seen.has(number)) seen.set(number, seq);
      }
    }
    for (const { seq, seal, value } of contents) {
      if (seal.kind !== 'DUPLICATE' || value.emitter === null || value.epoch === null) continue;
      const original = runs.get(runOf(value.emitter, value.epoch))?.events.get(value.number);
      if (original && !value.event_id?.equals(original.value.event_id)) say('SEQUENCE-REUSED', seq);
    }
    if (!allRead) continue;
    for (const { events, seen } of runs.values()) {
      let due = 0n;
      for (const [number, seq] of [...seen].sort(([a], [b]) => (a < b ? -1 : 1))) {
        if (number > due) say('HOLES', seq, Number(number - due));
        due = number + 1n;
      }
      if (events.size && !events.has(0n)) say('BAD-SIGNATURE', events.values().next().value.seq);
    }
  }
  return findings;
}
