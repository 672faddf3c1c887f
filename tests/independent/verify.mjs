// §10: the steps over a whole archive, of which a copy is at hand: no versions, no locks (steps 2 and 12).
import { Refused, sha256 } from './avro.mjs';
import { listSegments, Schemas } from './archive.mjs';
import { checkContents } from './contents.mjs';
import { endCounts, genuineCheckpoint, Keyring, parseCertificate, parseCheckpoint, parseEnd } from './note.mjs';
import { parseSegment } from './records.mjs';
import { checkRuns } from './runs.mjs';
import { checkSegment } from './segment.mjs';

const orNull = (fn) => {
  try { return fn(); } catch (e) { if (e instanceof Refused) return null; throw e; }
};

export function readCertificates(objects, root, findings) {
  const keyring = new Keyring();
  const unknown = () => findings.push({ finding: 'UNKNOWN-KEY', step: 1, chain: '', seq: null, count: 1 });
  const keys = [...objects].filter(([key]) => key.startsWith('keys/'));
  for (const [key, bytes] of keys.filter(([name]) => !name.endsWith('.end'))) {
    const cert = orNull(() => parseCertificate(bytes, root));
    if (cert && key === `keys/${cert.id}.cert`) keyring.add(cert);
    else unknown();
  }
  for (const [key, bytes] of keys.filter(([name]) => name.endsWith('.end'))) {
    const end = orNull(() => parseEnd(bytes));
    // A signer that ended states nothing: its own end is stated by a later key alone, so the latest are asked first.
    if (end && endCounts(end, keyring) && key === `keys/${end.id}-${sha256(bytes).toString('hex')}.end`) keyring.ends.push(end);
    else unknown();
  }
  const stated = keyring.ends.sort((a, b) => (keyring.find(b.role, b.successor).notBefore > keyring.find(a.role, a.successor).notBefore ? 1 : -1));
  keyring.ends = [];
  for (const end of stated) if (!keyring.ends.some((later) => later.id === end.successor)) keyring.ends.push(end);
  return keyring;
}

// Steps 3 to 10 along one chain, or from a seq on. An object that cannot be used leaves no `before` to the next one.
export function checkChain(chain, list, keyring, from = 0) {
  const findings = [];
  const segments = [];
  const say = (finding, step, seq, count) => findings.push({ finding, step, chain, seq, count });
  let end = from;
  let before = null;
  let whole = from === 0;
  const passed = { offset: null, sealedAt: 0n };
  list.forEach(({ first, bytes }, i) => {
    const next = list[i + 1]?.first ?? null;
    const record = orNull(() => parseSegment(bytes));
    const usable = record?.chain === chain && record.first_seq === first;
    const until = next ?? first + 1;
    if (first < end) say('FORKED', 4, first, end - first);
    if (first > end) { say('MISSING', 4, end, first - end); before = null; passed.offset = null; whole = false; }
    if (!usable) say('ALTERED', 3, first, until - first);
    if (first < end) return; // set aside: the segment that began first goes on
    if (!usable) { end = until; before = null; passed.offset = null; whole = false; return; }
    const segment = checkSegment({ record, bytes, before, next, keyring, passed });
    // Step 5: the next statement, which is signed, tells what this object was. Where damage has been found, this follows.
    const previous = before && segment.statement?.previous;
    if (previous && previous !== sha256(before.bytes).toString('hex') && !before.findings.length) {
      before.findings.push({ finding: 'ALTERED', step: 5, chain, seq: before.first, count: before.n });
    }
    segments.push(segment);
    end = first + segment.n;
    before = segment;
  });
  return { chain, segments, findings, end, whole };
}

// The root at a size, if a vouched segment reaches it.
export function rootAt(segments, size) {
  const s = segments.find((x) => x.vouched && x.first < size && size <= x.first + x.items.length);
  if (!s) return null;
  const tree = s.start.copy();
  for (const item of s.items.slice(0, size - s.first)) tree.add(item.hash);
  return tree.root();
}

// Step 14: what a kept checkpoint and the ends of keys say of each chain.
function checkKept(bytes, chains, keyring, say, unsure) {
  const marks = new Map();
  const mark = (chain, { size, root }) => marks.set(chain, [...marks.get(chain) ?? [], { size, root }]);
  for (const end of keyring.ends) end.marks.forEach((m, chain) => mark(chain, m));
  if (bytes) {
    const kept = orNull(() => parseCheckpoint(bytes));
    if (kept && genuineCheckpoint(bytes, kept.origin, keyring)) mark(kept.origin, kept);
    else say('UNKNOWN-KEY', kept?.origin ?? '', 0, 1);
  }
  for (const [chain, list] of marks) {
    const found = chains.get(chain);
    if (!found) { say('TRUNCATED', chain, 0, 1); continue; }
    const sorted = list.sort((a, b) => a.size - b.size);
    const most = sorted.at(-1).size;
    if (found.end < most) say('TRUNCATED', chain, found.end, most - found.end);
    const there = sorted.filter(({ size }) => size <= found.end).map((m) => ({ ...m, found: rootAt(found.segments, m.size) }));
    const forked = there.find((m) => m.found && !m.found.equals(m.root));
    if (forked) say('FORKED', chain, 0, forked.size);
    if (there.some((m) => m.size && !m.found)) unsure.push(`whether ${chain} has the roots that are known: what they cover cannot be used`);
  }
}

// Step 11, §8: documents that are not what the digest in their name stands for.
function alteredDocuments(objects) {
  return [...objects].filter(([key, bytes]) => {
    const one = /^(?:schemas\/([0-9a-f]{64})\.avsc|policies\/([0-9a-f]{64})\.toml|glossary\/([0-9a-f]{64})\.md)$/.exec(key);
    if (one) return sha256(bytes).toString('hex') !== (one[1] ?? one[2] ?? one[3]);
    const pair = /^policies\/([0-9a-f]{64})\.txt$/.exec(key);
    if (!pair) return false;
    const named = /^base ([0-9a-f]{64})\ntenant ([0-9a-f]{64})\n$/.exec(bytes.toString('latin1'));
    return !named || sha256(Buffer.from(named[1] + named[2], 'hex')).toString('hex') !== pair[1];
  }).length;
}

export function verifyArchive({ objects, root, keys, checkpoint }) {
  const findings = [];
  const unsure = ['locks and versions: this is a copy'];
  const keyring = readCertificates(objects, root, findings);
  const { chains: lists, strays } = listSegments(objects);
  for (let i = alteredDocuments(objects); i > 0; i--) findings.push({ finding: 'ALTERED', step: 11, chain: '', seq: null, count: 1 });
  for (const _ of strays) findings.push({ finding: 'INSERTED', step: 2, chain: '', seq: null, count: 1 });

  const chains = new Map();
  const schemas = new Schemas(objects);
  let seals = 0;
  let valid = 0;
  const announced = new Map(); // §3: a GENESIS counts the chains of its topic
  for (const [chain, list] of lists) {
    const result = checkChain(chain, list, keyring);
    const contents = result.segments.flatMap((s) => checkContents(s, { objects, keys, schemas }));
    findings.push(...result.findings, ...result.segments.flatMap((s) => s.findings));
    seals += result.segments.reduce((sum, s) => sum + s.items.length, 0);
    valid += result.segments.reduce((sum, s) => sum + s.good.size, 0);
    chains.set(chain, { ...result, contents, allRead: result.whole && result.segments.every((s) => s.allRead) });
    const partitions = contents.find((c) => c.seal.kind === 'GENESIS')?.value.partitions ?? 0;
    announced.set(chain.replace(/\/\d+$/, ''), partitions);
  }
  findings.push(...checkRuns(chains, keyring));
  const step14 = (finding, chain, seq, count) => findings.push({ finding, step: 14, chain, seq, count });
  checkKept(checkpoint, chains, keyring, step14, unsure);
  if (!checkpoint) unsure.push('segments cut from the end: no checkpoint was kept');
  for (const [topic, count] of announced) {
    const there = [...chains.keys()].filter((c) => c.startsWith(`${topic}/`)).length;
    if (there < count) unsure.push(`${count - there} of ${count} chains of ${topic} have no segment`);
  }
  if (valid < seals) unsure.push(`${seals - valid} records are not VALID`);

  const lenient = (f) => f.step === 13 && (f.finding === 'HOLES' || f.finding === 'SEQUENCE-REUSED');
  let outcome = 'not verified';
  if (chains.size && valid === seals && findings.every(lenient)) outcome = findings.length ? 'intact' : 'good';
  return { outcome, findings, valid, seals, unsure };
}
