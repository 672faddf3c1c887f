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
    const keys = checkpoint ? [checkpoint.cert] : keyring.of('archive', chain);
    if (!keys.some((c) => c.key.signed(statement.note, chain))) return { statement: null, problem: 'BAD-SIGNATURE' };
    if (statement.chain !== chain || statement.first !== record.first_seq) return { statement: null, problem: 'ALTERED' };
    const problem = statement.references === referencesDigest(record.contents) ? null : 'ALTERED';
    return { statement, problem };
  } catch (e) {
    if (e instanceof Refused) return { statement: null, problem: 'ALTERED' };
    throw e;
  }
}

// Step 7: Map(seq -> null if the signature holds, or the finding).
function judgeSignatures(record, slots, keyring) {
  const verdicts = new Map();
  let last = -1;
  for (const { seq, key_id: id, value } of record.signatures) {
    const item = slots.get(seq);
    let verdict = 'BAD-SIGNATURE';
    if (item?.seal.signed && seq > last) {
      const cert = keyring.find('sealer', id.toString('hex'));
      const counts = cert && record.chain.startsWith(`${cert.name}/`) && cert.covers(item.seal.sealed_at) && seq < keyring.limit(cert.id, record.chain);
      if (!counts) verdict = 'UNKNOWN-KEY';
      else if (cert.key.verifies(signedBytes(item.hash), value)) verdict = null;
    }
    verdicts.set(seq, verdicts.has(seq) ? 'BAD-SIGNATURE' : verdict);
    last = seq;
  }
  for (const [seq, item] of slots) if (item.seal.signed && !verdicts.has(seq)) verdicts.set(seq, 'BAD-SIGNATURE');
  return verdicts;
}

// Steps 8 and 9 between two seals that follow each other.
function follows(before, seal, say) {
  if (before && before.source_offset + before.source_count !== seal.source_offset) say('HOLES', 8, seal.seq);
  else if (!countFits(seal)) say('HOLES', 8, seal.seq);
  if (before && seal.sealed_at < before.sealed_at) say('ALTERED', 9, seal.seq);
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

// before: what the segment before left, or null if that one is missing or could not be used. next: first seq of the next object.
export function checkSegment({ record, bytes, before, next, keyring }) {
  const { chain, first_seq: first } = record;
  const findings = [];
  const say = (finding, step, seq, count = 1) => findings.push({ finding, step, chain, seq, count });
  const items = readSeals(record.seals, chain);

  const checkpoint = genuineCheckpoint(Buffer.from(record.checkpoint), chain, keyring);
  const said = readStatement(record, checkpoint, keyring);
  const { statement } = said;
  // How many seals there should be: what the archive's key said, else what follows in the archive, else what is there.
  const span = checkpoint && checkpoint.size > first ? checkpoint.size - first : null;
  const n = span === items.length ? span : statement?.count ?? span ?? (next === null ? items.length : next - first);
  const lies = statement && (statement.count !== n || (first === 0 && statement.previous !== ZEROS));
  const problem = said.problem ?? (lies ? 'ALTERED' : null);

  const { slots, findings: placing } = align(items, first, n);
  const numbers = [...slots.keys()].sort((a, b) => a - b);
  const flagged = new Ranges();
  const verdicts = judgeSignatures(record, slots, keyring);
  const links = brokenLinks(slots, numbers, (p) => verdicts.get(p) === null);
  for (const f of [...placing, ...links]) {
    findings.push({ chain, ...f });
    if (f.finding !== 'REORDERED') flagged.add(f.seq, f.count);
  }

  if (problem) say(problem, 5, first, n);

  for (const [seq, verdict] of verdicts) {
    if (verdict && !flagged.has(seq)) { say(verdict, 7, seq); flagged.add(seq); }
  }
  const damaged = findings.some((f) => f.step >= 6);

  // Step 10. The tree so far is known where all segments before were vouched for; else the segment's own frontier has to do.
  const own = Tree.fits(first, record.frontier) ? new Tree(first, record.frontier) : null;
  const start = before?.tree ?? (first === 0 ? new Tree() : own);
  const frontierHolds = start?.same(record.frontier)
    && (!before?.checkpoint || before.checkpoint.size !== first || start.root().equals(before.checkpoint.root));
  if (!frontierHolds) say('ALTERED', 10, first);
  const tree = start?.copy();
  if (tree) for (const i of items) tree.add(i.hash);
  const vouched = Boolean(items.length && tree && checkpoint && checkpoint.size === tree.size && checkpoint.root.equals(tree.root()));
  if (!checkpoint) say('BAD-SIGNATURE', 10, first, n);
  else if (!vouched && tree && !(damaged && checkpoint.size === first + n)) say('ALTERED', 10, first, n);

  // Backwards: attested is what a valid signature at or after it holds, through unbroken links.
  const attested = new Set();
  for (const p of numbers.toReversed()) {
    if (verdicts.get(p) === null || (attested.has(p + 1) && linked(slots.get(p), slots.get(p + 1)))) attested.add(p);
  }
  if (!findings.some((f) => f.step === 6 || f.step === 7 || f.step === 10)) {
    const loose = numbers.filter((p) => !attested.has(p));
    if (loose.length) say('UNATTESTED', 7, loose[0], loose.length);
  }

  let last = before?.last ?? null; // a seal that nothing speaks against
  if (last && slots.has(first) && !flagged.has(first) && !linked(last, slots.get(first)) && !damaged) {
    say('ALTERED', 6, first);
    flagged.add(first);
  }
  for (const p of numbers) {
    const { seal } = slots.get(p);
    if (flagged.has(p)) { last = null; continue; }
    follows(last && last.number === p - 1 ? last.seal : null, seal, say);
    if (checkpoint && seal.sealed_at > checkpoint.seconds * 1_000_000n + MINUTE) say('ALTERED', 9, p);
    last = slots.get(p);
  }

  const good = new Set(vouched ? [...attested].filter((p) => !flagged.has(p)) : []);
  for (const f of findings) if (f.step === 8 || f.step === 9) good.delete(f.seq);
  return {
    record, bytes, first, n, start, checkpoint, statement, slots, items, flagged, good, findings, vouched,
    last: vouched ? last : null,
    tree: vouched ? tree : null,
  };
}
