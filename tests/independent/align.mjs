// Step 6: which seal stands for which number of a segment, and what became of the others.
// "One damage is one finding": numbers and hashes are weighed together, so that one change is blamed on one seal.
import { refuse, Refused } from './avro.mjs';
import { leafHash, parseSeal } from './records.mjs';

export function readSeals(list, chain) {
  return list.map((bytes, at) => {
    const hash = leafHash(bytes);
    try {
      const seal = parseSeal(bytes);
      if (seal.chain !== chain) refuse('of another chain');
      return { at, hash, seal, number: seal.seq };
    } catch (e) {
      if (!(e instanceof Refused)) throw e;
      return { at, hash, seal: null, number: null };
    }
  });
}

// Of several seals with one number the one counts that its neighbours vouch for: first by hash, then by place.
function choose(candidates, items, hashes, prevs) {
  const score = (c) => 8 * prevs.has(c.hash.toString('hex')) + 4 * hashes.has(c.seal.prev.toString('hex'))
    + (items[c.at - 1]?.number === c.number - 1) + (items[c.at + 1]?.number === c.number + 1);
  return candidates.reduce((best, c) => (score(c) > score(best) ? c : best));
}

// Numbers in the order in which they lie; each smallest stretch that only needs to be sorted is one REORDERED.
function reordered(placed) {
  const sorted = [...placed].sort((a, b) => a.number - b.number);
  const rank = new Map(sorted.map((item, i) => [item, i]));
  const found = [];
  let start = 0;
  let highest = -1;
  placed.forEach((item, i) => {
    highest = Math.max(highest, rank.get(item));
    if (highest !== i) return;
    if (i > start) found.push({ finding: 'REORDERED', step: 6, seq: sorted[start].number, count: i - start + 1 });
    start = i + 1;
  });
  return found;
}

function holesOf(slots, first, n) {
  const holes = [];
  let due = first;
  for (const p of [...[...slots.keys()].sort((a, b) => a - b), first + n]) {
    if (p > due) holes.push({ seq: due, count: p - due });
    due = p + 1;
  }
  return holes;
}

// first … first + n - 1 are the numbers that the segment should hold.
export function align(items, first, n) {
  const slots = new Map();
  const byNumber = new Map();
  for (const i of items) {
    if (i.number === null || i.number < first || i.number >= first + n) continue;
    if (!byNumber.has(i.number)) byNumber.set(i.number, []);
    byNumber.get(i.number).push(i);
  }
  const hashes = new Set(items.map((i) => i.hash.toString('hex')));
  const prevs = new Set(items.map((i) => i.seal?.prev.toString('hex')));
  for (const [number, candidates] of byNumber) slots.set(number, choose(candidates, items, hashes, prevs));
  const placed = items.filter((i) => slots.get(i.number) === i);
  let spare = items.filter((i) => slots.get(i.number) !== i);
  const findings = reordered(placed);

  for (const hole of holesOf(slots, first, n)) {
    const { seq, count } = hole;
    const low = slots.get(seq - 1)?.at ?? -1;
    const next = slots.get(seq + count);
    const fill = spare.filter((i) => i.at > low && i.at < (next?.at ?? items.length)).slice(0, count);
    spare = spare.filter((i) => !fill.includes(i));
    fill.forEach((_, k) => findings.push({ finding: 'ALTERED', step: 6, seq: seq + k, count: 1 }));
    const rest = { seq: seq + fill.length, count: count - fill.length };
    if (rest.count) findings.push(next ? { finding: 'MISSING', step: 6, ...rest } : { finding: 'TRUNCATED', step: 10, ...rest });
  }

  const end = first + n;
  const lastAt = placed.at(-1)?.at ?? -1;
  const appended = spare.filter((i) => i.at > lastAt && i.number >= end);
  if (appended.length) findings.push({ finding: 'INSERTED', step: 10, seq: end, count: appended.length });
  for (const i of spare) {
    if (appended.includes(i)) continue;
    const before = placed.findLast((p) => p.at < i.at);
    const place = before ? before.number + 1 : first;
    // The specification does not say which number an extra seal is reported at: the lower of its own and its place's.
    findings.push({ finding: 'INSERTED', step: 6, seq: slots.has(i.number) ? Math.min(i.number, place) : place, count: 1 });
  }
  return { slots, findings };
}

// Links within a segment: prev of each is the leaf hash of the one before.
export function linked(before, after) { return after.seal.prev.equals(before.hash); }

export function brokenLinks(slots, numbers, isSigned) {
  const broken = (p) => slots.has(p) && slots.has(p + 1) && !linked(slots.get(p), slots.get(p + 1));
  const blamed = new Set();
  for (const p of numbers) {
    if (!broken(p) || blamed.has(p)) continue;
    // Both links of one seal broken, or a signature that proves the earlier one: then it is the later's prev.
    blamed.add(broken(p + 1) || isSigned(p) ? p + 1 : p);
  }
  return [...blamed].map((seq) => ({ finding: 'ALTERED', step: 6, seq, count: 1 }));
}
