// Step 13: the runs of the emitters (§9), over all contents of all chains.
import { Refused, sha256 } from './avro.mjs';
import { parseSession, SCHEMA } from './records.mjs';

const STATEMENT = Buffer.from('sealtrail/run/v1\n');

// Whether an event is its run's opening, and then whether it holds: null if it is none.
function opens({ emitter, extension, event_name: name }, chain, seq, keyring) {
  if (name !== 'emitter.open' || emitter.seq !== 0n || extension?.schema?.toString('hex') !== SCHEMA.runSession) return null;
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

// Stretches of numbers below the highest that were not seen.
function holesOf(seen) {
  const holes = [];
  let due = 0n;
  for (const number of [...seen.keys()].sort((a, b) => (a < b ? -1 : 1))) {
    if (number > due) holes.push(number - due);
    due = number + 1n;
  }
  return holes;
}

const runOf = (who, epoch) => `${who}/${epoch.toString('hex')}`;

// chains: Map(chain -> { contents, allRead })
export function checkRuns(chains, keyring) {
  const findings = [];
  const homes = new Map();
  for (const [chain, { contents, allRead }] of chains) {
    const say = (finding, seq, count = 1) => findings.push({ finding, step: 13, chain, seq, count });
    const runs = new Map();
    const repeated = new Map();
    for (const { seq, seal, value } of contents) {
      const named = value.emitter !== null && value.epoch !== null && value.number !== null;
      let id;
      let number;
      if (seal.kind === 'EVENT') {
        id = runOf(`${value.emitter.source}/${value.emitter.instance}`, value.emitter.epoch);
        number = value.emitter.seq;
      } else if (named) {
        id = runOf(value.emitter, value.epoch);
        ({ number } = value);
      }
      if (seal.kind === 'DUPLICATE' && named) {
        const key = `${id} ${number}`;
        if (!repeated.has(key)) repeated.set(key, { id, number, duplicates: [] });
        repeated.get(key).duplicates.push({ seq, eventId: value.event_id });
      }
      if (id === undefined || (seal.kind !== 'EVENT' && (seal.kind !== 'REJECTED' || seal.reason === 'SEQUENCE_WILD'))) continue;
      if (!runs.has(id)) {
        runs.set(id, { seen: new Map(), first: seq, opened: false });
        if (!homes.has(id)) homes.set(id, chain);
        else if (homes.get(id) !== chain) say('INSERTED', seq);
      }
      const run = runs.get(id);
      if (run.seen.has(number)) say('INSERTED', seq);
      const eventId = seal.kind === 'EVENT' ? value.event_id : value.event_id ?? null;
      run.seen.set(number, [...(run.seen.get(number) ?? []), eventId]);
      const opening = seal.kind === 'EVENT' ? opens(value, chain, seq, keyring) : null;
      if (opening === false) say('BAD-SIGNATURE', seq);
      if (opening !== null) run.opened = true;
    }
    for (const { id, number, duplicates } of repeated.values()) {
      const originals = (runs.get(id)?.seen.get(number) ?? []).filter((eventId) => eventId !== null);
      for (const { seq, eventId } of duplicates) {
        for (const original of originals) if (!eventId?.equals(original)) say('SEQUENCE-REUSED', seq);
      }
      const highest = [...(runs.get(id)?.seen.keys() ?? [])].reduce((most, k) => (k > most ? k : most), -1n);
      if (allRead && number > highest) say('HOLES', duplicates[0].seq);
    }
    if (!allRead) continue;
    for (const { seen, first, opened } of runs.values()) {
      for (const count of holesOf(seen)) say('HOLES', first, Number(count));
      if (!opened) say('BAD-SIGNATURE', first);
    }
  }
  return findings;
}
