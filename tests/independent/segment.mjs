// Steps 5 to 10 for one segment that could be read.
import { Refused, sha256 } from './avro.mjs';
import { align, brokenLinks, linked, readSeals } from './align.mjs';
import { genuineCheckpoint, parseStatement } from './note.mjs';
import { countFits, signedBytes } from './records.mjs';
import { Tree } from './tree.mjs';

const ZEROS = '0'.repeat(64);
const MINUTE = 60_000_000n;

function referencesDigest(contents) {
  return sha256(contents.map((c) => `${c.name} ${c.version} ${c.sha256.toString('hex')} ${c.size} ${c.rows}\n`).join('')).toString('hex');
}

// Step 5, apart from what depends on other objects. { statement, problem }: only a signed one is a statement.
function readStatement(record, checkpoint, keyring) {
  const { chain } = record;
  try {
    const statement = parseStatement(Buffer.from(record.statement), chain);
    if (statement.chain !== chain || statement.first !== record.first_seq) return { statement: null, problem: 'ALTERED' };
    const keys = checkpoint ? [checkpoint.cert] : keyring.of('archive', chain);
    if (!keys.some((c) => c.key.signed(statement.note, chain))) return { statement: null, problem: 'BAD-SIGNATURE' };
    const lies = record.first_seq === 0 && statement.previous !== ZEROS;
    return { statement, problem: lies || statement.references !== referencesDigest(record.contents) ? 'ALTERED' : null };
  } catch (e) {
    if (e instanceof Refused) return { statement: null, problem: 'ALTERED' };
    throw e;
  }
}

// Step 7, one seal alone: null if the signature holds, or the finding.
function judge({ seal, hash }, given, chain, keyring) {
  if (!given) return 'BAD-SIGNATURE';
  const cert = keyring.find('sealer', given.key_id.toString('hex'));
  if (!cert || !chain.startsWith(`${cert.name}/`)) return 'UNKNOWN-KEY';
  if (!cert.key.verifies(signedBytes(hash), given.value)) return 'BAD-SIGNATURE';
  if (!cert.covers(seal.sealed_at) || seal.seq >= keyring.limit(cert.id, chain)) return 'UNKNOWN-KEY';
  return seal.signed ? null : 'BAD-SIGNATURE';
}

// Step 7: Map(seq -> null if the signature holds, or the finding).
function judgeSignatures(record, slots, keyring) {
  const verdicts = new Map();
  let last = -1;
  for (const given of record.signatures) {
    const { seq } = given;
    const item = slots.get(seq);
    const verdict = item && seq > last ? judge(item, given, record.chain, keyring) : 'BAD-SIGNATURE';
    verdicts.set(seq, verdicts.has(seq) ? 'BAD-SIGNATURE' : verdict);
    last = seq;
  }
  for (const [seq, item] of slots) if (item.seal.signed && !verdicts.has(seq)) verdicts.set(seq, 'BAD-SIGNATURE');
  return verdicts;
}

// Steps 8 and 9, of a segment whose seals are those of its checkpoint.
function judgeTimes(items, checkpoint, passed, say) {
  const late = [];
  for (const { seal, number } of items) {
    const follows = passed.offset === null || passed.offset === seal.source_offset;
    if (!follows || !countFits(seal) || (number === 0) !== (seal.kind === 'GENESIS')) say('HOLES', 8, number);
    passed.offset = seal.source_offset + seal.source_count;
    if (seal.sealed_at < passed.sealedAt) say('ALTERED', 9, number);
    passed.sealedAt = seal.sealed_at;
    if (seal.sealed_at > checkpoint.seconds * 1_000_000n + MINUTE) late.push(number);
  }
  if (late.length) say('ALTERED', 9, late[0], late.length);
}

// Stretches of numbers; a signed count may be larger than anything worth a set.
class Ranges {
  single = new Set();
  long = [];
  add(seq, count = 1) {
    if (count === 1) this.single.add(seq);
    else this.long.push([seq, seq + count]);
  }
  has(seq) { return this.single.has(seq) || this.long.some(([from, to]) => from <= seq && seq < to); }
}

// Step 5: how many seals a segment should hold.
function countOf(items, { first, statement, next, isSigned }) {
  if (statement) return statement.count;
  if (next !== null) return next - first;
  const last = items.at(-1);
  return last?.number >= first && isSigned(last) ? last.number + 1 - first : items.length;
}

// before: what the segment before left, or null if that one is missing or could not be used. next: first seq of the next object.
// passed: what the seals so far came to: { offset, sealedAt }.
export function checkSegment({ record, bytes, before, next, keyring, passed }) {
  const { chain, first_seq: first } = record;
  const findings = [];
  const say = (finding, step, seq, count = 1) => findings.push({ finding, step, chain, seq, count });
  const items = readSeals(record.seals, chain);

  let checkpoint = genuineCheckpoint(Buffer.from(record.checkpoint), chain, keyring);
  const { statement, problem } = readStatement(record, checkpoint, keyring);
  const given = new Map(record.signatures.map((g) => [g.seq, g]));
  const isSigned = (i) => i.seal !== null && given.has(i.number) && judge(i, given.get(i.number), chain, keyring) === null;
  const n = countOf(items, { first, statement, next, isSigned });
  if (problem) say(problem, 5, first, n);
  if (!checkpoint) say('BAD-SIGNATURE', 10, first, n);
  else if (checkpoint.size !== first + n) {
    say('ALTERED', 10, first, n);
    checkpoint = null;
  }

  const segment = { first, n, prev: first === 0 ? Buffer.alloc(32) : before?.vouched ? before.items.at(-1).hash : null, isSigned };
  const { slots, findings: placing } = align(items, segment);
  const numbers = [...slots.keys()];
  const altered = new Set(placing.filter((f) => f.finding === 'ALTERED').map((f) => f.seq));
  const flagged = new Ranges();
  const located = new Ranges();
  const verdicts = judgeSignatures(record, slots, keyring);
  const placed = [...placing, ...brokenLinks(slots, segment, altered)];
  for (const f of placed) {
    findings.push({ chain, ...f });
    flagged.add(f.seq, f.count);
    located.add(f.seq, f.count);
  }
  for (const [seq, verdict] of verdicts) {
    if (verdict && !flagged.has(seq)) { say(verdict, 7, seq); flagged.add(seq); }
  }
  const damaged = findings.some((f) => f.step === 6 || f.step === 7) || placed.length;

  // Step 10. The tree so far is known where all segments before were vouched for; else the segment's own frontier has to do.
  const own = Tree.fits(first, record.frontier) ? new Tree(first, record.frontier) : null;
  const start = before?.tree ?? (first === 0 ? new Tree() : own);
  if (!start?.same(record.frontier)) say('ALTERED', 10, first);
  const tree = start?.copy();
  if (tree) for (const i of items) tree.add(i.hash);
  const vouched = Boolean(items.length && tree && checkpoint && checkpoint.size === tree.size && checkpoint.root.equals(tree.root()));
  if (checkpoint && tree && !vouched && !damaged) say('ALTERED', 10, first, n);

  // Backwards: attested is what a valid signature at or after it holds, through unbroken links.
  const attested = new Set();
  for (const p of numbers.toReversed()) {
    if (verdicts.get(p) === null || (attested.has(p + 1) && linked(slots.get(p), slots.get(p + 1)))) attested.add(p);
  }
  if (vouched) judgeTimes(items, checkpoint, passed, say);
  else passed.offset = null;

  const good = new Set(vouched ? [...attested].filter((p) => !flagged.has(p)) : []);
  for (const f of findings) {
    if (f.step === 8 || f.step === 9) for (let p = f.seq; p < f.seq + f.count; p++) good.delete(p);
  }
  return {
    record, bytes, first, n, start, checkpoint, statement, slots, items, flagged: vouched ? located : flagged, good, findings, vouched,
    tree: vouched ? tree : null,
  };
}
