// Step 6: which seal stands for which number of a segment, and what became of the others. Letters are those of §10.
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

const hexes = (buffers) => new Set(buffers.map((b) => b.toString('hex')));

// Each stored seal to the length of the stretch of numbers going up by one that it stands in.
function stretches(items) {
  const lengths = new Map();
  for (let from = 0; from < items.length;) {
    let to = from + 1;
    while (to < items.length && items[to].number !== null && items[to - 1].number === items[to].number - 1) to++;
    for (let i = from; i < to; i++) lengths.set(items[i], to - from);
    from = to;
  }
  return lengths;
}

// (a) The holder of each number: Map in ascending order.
function holders(items, { first, n, prev, isSigned }) {
  const stating = new Map();
  for (const i of items) {
    if (i.number === null || i.number < first || i.number >= first + n) continue;
    if (!stating.has(i.number)) stating.set(i.number, []);
    stating.get(i.number).push(i);
  }
  const lengths = stretches(items);
  const slots = new Map();
  for (const number of [...stating.keys()].sort((a, b) => a - b)) {
    const all = stating.get(number);
    if (all.length === 1) { slots.set(number, all[0]); continue; }
    const before = hexes(number > first ? (stating.get(number - 1) ?? []).map((i) => i.hash) : [prev].filter(Boolean));
    const after = hexes((stating.get(number + 1) ?? []).map((i) => i.seal.prev));
    const vouchers = (i) => before.has(i.seal.prev.toString('hex')) + after.has(i.hash.toString('hex')) + isSigned(i);
    const ranked = all.map((item) => ({ item, vouchers: vouchers(item), length: lengths.get(item) }));
    ranked.sort((x, y) => y.vouchers - x.vouchers || y.length - x.length || x.item.at - y.item.at);
    slots.set(number, ranked[0].item);
  }
  return slots;
}

// (b) Numbers in the order in which they lie; each smallest stretch that only needs to be sorted is one REORDERED.
function reordered(slots) {
  const sorted = [...slots.values()];
  const rank = new Map(sorted.map((item, i) => [item, i]));
  const found = [];
  let start = 0;
  let highest = -1;
  [...sorted].sort((a, b) => a.at - b.at).forEach((item, i) => {
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
  for (const p of [...slots.keys(), first + n]) {
    if (p > due) holes.push({ seq: due, count: p - due });
    due = p + 1;
  }
  return holes;
}

// segment: { first, n, prev, isSigned }; first … first + n - 1 are the numbers that it should hold, prev the hash before it, if known.
export function align(items, segment) {
  const { first, n } = segment;
  const slots = holders(items, segment);
  const stands = new Map([...slots].map(([number, item]) => [item, number]));
  const findings = reordered(slots);
  for (const { seq, count } of holesOf(slots, first, n)) { // (c)
    const low = slots.get(seq - 1)?.at ?? -1;
    const next = slots.get(seq + count);
    const fill = items.filter((i) => !stands.has(i) && i.at > low && i.at < (next?.at ?? items.length)).slice(0, count);
    fill.forEach((item, k) => {
      stands.set(item, seq + k);
      findings.push({ finding: 'ALTERED', step: 6, seq: seq + k, count: 1 });
    });
    const rest = { seq: seq + fill.length, count: count - fill.length };
    if (rest.count) findings.push(next ? { finding: 'MISSING', step: 6, ...rest } : { finding: 'TRUNCATED', step: 10, ...rest });
  }
  const last = items.findLast((i) => stands.has(i))?.at ?? -1; // (d)
  let place = first;
  let appended = 0;
  for (const item of items) {
    if (stands.has(item)) place = stands.get(item) + 1;
    else if (slots.has(item.number)) findings.push({ finding: 'INSERTED', step: 6, seq: item.number, count: 1 });
    else if (item.at < last) findings.push({ finding: 'INSERTED', step: 6, seq: place, count: 1 });
    else appended++;
  }
  if (appended) findings.push({ finding: 'INSERTED', step: 10, seq: first + n, count: appended });
  return { slots, findings };
}

// Links within a segment: prev of each is the leaf hash of the one before.
export function linked(before, after) { return after.seal.prev.equals(before.hash); }

// (e) altered: numbers that are found to be altered already.
export function brokenLinks(slots, { first, prev, isSigned }, altered) {
  const blamed = new Set();
  const touched = (p) => altered.has(p) || blamed.has(p);
  for (const [p, item] of slots) {
    const before = slots.get(p - 1);
    const hash = before?.hash ?? (p === first ? prev : null);
    if (!hash || item.seal.prev.equals(hash) || touched(p - 1) || touched(p)) continue;
    const next = slots.get(p + 1);
    const vouched = isSigned(item) || (next && linked(item, next));
    blamed.add(before && vouched && !isSigned(before) ? p - 1 : p);
  }
  return [...blamed].map((seq) => ({ finding: 'ALTERED', step: 6, seq, count: 1 }));
}
