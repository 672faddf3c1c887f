// §14: bundles, from their members on.
import { createHmac } from 'node:crypto';
import { decodeSingle, readContainer, Refused, refuse, sha256, text } from './avro.mjs';
import { listSegments, Schemas } from './archive.mjs';
import { genuineCheckpoint, keyHash, parseCheckpoint, parseNote } from './note.mjs';
import { contentDigest, isChain, SCHEMA, whole } from './records.mjs';
import { readTar } from './tar.mjs';
import { checkChain, readCertificates, rootAt } from './verify.mjs';

const TEXTS = ['MANIFEST', 'SHA256SUMS', 'filter.json', 'disclosure.txt'];
const CLASSES = ['admin', 'compliance', 'debug', 'operational', 'security'];
const NAME = '[A-Za-z0-9][A-Za-z0-9._-]{0,248}';
const hexOf = (...parts) => sha256(...parts).toString('hex');
const hmac = (key, ...parts) => parts.reduce((h, p) => h.update(p), createHmac('sha256', key)).digest();
const orNull = (fn) => {
  try { return fn(); } catch (e) { if (e instanceof Refused) return null; throw e; }
};

// Lines of a text whose last one ends too.
function linesOf(bytes) {
  const whole_ = text(bytes);
  if (whole_ && !whole_.endsWith('\n')) refuse('no last newline');
  return whole_.split('\n').slice(0, -1);
}

function inOrder(names) {
  names.forEach((n, i) => { if (i && n <= names[i - 1]) refuse('not sorted'); });
}

// ---- the four texts

const MANIFEST = new RegExp(`^sealtrail/bundle/v1\ndeployment (${NAME}/${NAME})\nmade (\\d{4}-\\d\\d-\\d\\dT\\d\\d:\\d\\d:\\d\\dZ)\n`
  + 'export ([0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12})\nfiles (0|[1-9][0-9]{0,5})\nsums ([0-9a-f]{64})\n$');

function parseManifest(bytes) {
  const note = parseNote(bytes);
  const m = MANIFEST.exec(note.text) ?? refuse('text of the manifest');
  if (note.signatures.length !== 1) refuse('one signature');
  return { note, deployment: m[1], made: instant(m[2]), files: Number(m[4]), sums: m[5] };
}

function parseSums(bytes) {
  const lines = linesOf(bytes).map((l) => /^([0-9a-f]{64}) {2}(\S+)$/.exec(l) ?? refuse('line of SHA256SUMS'));
  inOrder(lines.map((m) => m[2]));
  return new Map(lines.map((m) => [m[2], m[1]]));
}

function parseKeys(bytes) {
  const lines = linesOf(bytes).map((l) => /^(\S+) ([0-9a-f]{64})$/.exec(l) ?? refuse('line of disclosure.txt'));
  if (!lines.every((m) => isChain(m[1]))) refuse('chain of a disclosure key');
  inOrder(lines.map((m) => m[1]));
  return new Map(lines.map((m) => [m[1], Buffer.from(m[2], 'hex')]));
}

// Microseconds since 1970 of a time in its one form.
function instant(s) {
  const m = /^(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d)(?:\.(\d{6}))?Z$/.exec(s) ?? refuse('time');
  const ms = Date.parse(`${m[1]}Z`);
  if (Number.isNaN(ms) || new Date(ms).toISOString().slice(0, 19) !== m[1] || m[2] === '000000') refuse('time');
  return BigInt(ms) * 1000n + BigInt(m[2] ?? 0);
}

function parseFilter(bytes) {
  let f;
  try { f = JSON.parse(text(bytes)); } catch { refuse('JSON of the filter'); }
  const names = ['actor', 'classes', 'correlation', 'from', 'tenant', 'to'];
  if (f === null || typeof f !== 'object' || Object.keys(f).join() !== names.join() || JSON.stringify(f) !== text(bytes)) refuse('filter');
  if (typeof f.tenant !== 'string' || !/^(@deployment|[a-z0-9][a-z0-9._-]{0,62})$/.test(f.tenant)) refuse('tenant');
  for (const n of ['actor', 'correlation']) if (f[n] !== null && !(typeof f[n] === 'string' && /^[!-~]{1,256}$/.test(f[n]))) refuse(n);
  if (f.classes !== null) {
    if (!Array.isArray(f.classes) || !f.classes.length || !f.classes.every((c) => CLASSES.includes(c))) refuse('classes');
    inOrder(f.classes);
  }
  for (const n of ['from', 'to']) {
    if (f[n] !== null && typeof f[n] !== 'string') refuse(n);
    f[n] = f[n] === null ? null : instant(f[n]);
  }
  return f;
}

// B1, as far as it is form.
export function openMembers(members) {
  if (!TEXTS.every((n) => members.has(n))) refuse('a text that every bundle has');
  return {
    members,
    manifest: parseManifest(members.get('MANIFEST')),
    sums: parseSums(members.get('SHA256SUMS')),
    filter: parseFilter(members.get('filter.json')),
    keys: parseKeys(members.get('disclosure.txt')),
  };
}

export const openBundle = (file) => openMembers(readTar(file));

// ---- B1

const KNOWN = new RegExp('^(chains/.*|keys/.*|records/.*|glossary/[0-9a-f]{64}\\.md|schemas/[0-9a-f]{64}\\.avsc'
  + '|policies/[0-9a-f]{64}\\.(toml|txt)|filter\\.json|disclosure\\.txt)$');
const recordsOf = (chain, first) => `records/${chain}/${String(first).padStart(20, '0')}.avro`;

function checkMembers({ members, manifest, sums, keys }, chains, say) {
  if (hexOf(members.get('SHA256SUMS')) !== manifest.sums || sums.size !== manifest.files) say('ALTERED');
  const expected = new Set([...chains].flatMap(([chain, list]) => list.map((s) => recordsOf(chain, s.first))));
  for (const [name, bytes] of members) {
    if (name === 'MANIFEST' || name === 'SHA256SUMS') continue;
    const digest = hexOf(bytes);
    const named = /^(?:schemas|policies|glossary)\/([0-9a-f]{64})\.(?:avsc|toml|md)$/.exec(name);
    if (!sums.has(name)) { say('INSERTED'); continue; }
    const pair = /^policies\/([0-9a-f]{64})\.txt$/.exec(name);
    if (sums.get(name) !== digest || (named && named[1] !== digest) || (pair && !pairOf(bytes, pair[1]))) say('ALTERED');
    const elsewhere = name.startsWith('chains/') && !name.startsWith(`chains/${manifest.deployment}/`);
    if (!KNOWN.test(name) || elsewhere || (name.startsWith('records/') && !expected.has(name))) say('INSERTED');
  }
  for (const name of sums.keys()) if (!members.has(name) || name === 'MANIFEST' || name === 'SHA256SUMS') say('MISSING');
  for (const chain of keys.keys()) if (!chains.has(chain)) say('INSERTED');
}

function checkSignature({ manifest }, keyring, say) {
  const [{ name, hash }] = manifest.note.signatures;
  const its = [...keyring.certificates.values()]
    .filter((c) => c.role === 'auditor' && c.name === name && keyHash(name, 1, c.key.bytes).equals(hash));
  const counts = (c) => c.key.signed(manifest.note, name) && `${manifest.deployment}/`.startsWith(`${name}/`) && c.covers(manifest.made);
  if (!its.some(counts)) say(its.length ? 'BAD-SIGNATURE' : 'UNKNOWN-KEY');
}

// ---- B3 and B4, along one chain

function readRows(bytes) {
  const rows = readContainer(bytes, SCHEMA.row);
  for (const r of rows) r.seq = r.seq < 0n ? -1 : whole(r.seq);
  if (!rows.length || rows.some((r, i) => i && !(r.seq > rows[i - 1].seq))) refuse('rows');
  return rows;
}

const inTime = (f, seal) => (f.from === null || seal.sealed_at >= f.from) && (f.to === null || seal.sealed_at < f.to);
const ofClass = (f, seal) => f.classes === null || f.classes.includes(seal.log_class.toLowerCase());

function matches(f, seal, event) {
  return event.tenant === f.tenant && ofClass(f, seal) && inTime(f, seal)
    && (f.correlation === null || event.correlation_id === f.correlation)
    && (f.actor === null || event.actor?.id === f.actor);
}

// The digests that a policy is made of, or null if these bytes are not its pair.
function pairOf(bytes, policy) {
  const m = bytes && /^base ([0-9a-f]{64})\ntenant ([0-9a-f]{64})\n$/.exec(bytes.toString('latin1'));
  if (!m || hexOf(Buffer.from(m[1] + m[2], 'hex')) !== policy) return null;
  return [m[1], m[2]].filter((d) => !/^0+$/.test(d));
}

function policyThere(members, policy) {
  const pair = pairOf(members.get(`policies/${policy}.txt`), policy);
  return Boolean(pair?.every((d) => hexOf(members.get(`policies/${d}.toml`) ?? '') === d));
}

// The state of one record: 'VALID', 'UNDECIDED', or the finding.
function readRecord(row, seal, filter, schemas) {
  if (seal.kind !== 'EVENT' || !contentDigest(row).equals(seal.content_digest)) return 'ALTERED';
  const schema = schemas.get(row.content_schema);
  if (!schema) return 'UNDECIDED';
  const event = orNull(() => decodeSingle(schema.header, schema.read, row.content));
  if (!event?.event_id?.equals?.(row.event_id)) return 'ALTERED';
  return matches(filter, seal, event) ? 'VALID' : 'INSERTED';
}

function checkRecords(result, { members, filter, keys }, schemas) {
  const { chain, segments } = result;
  const findings = [];
  const say = (finding, step, seq, count = 1) => findings.push({ finding, step, chain, seq, count });
  const key = keys.get(chain);
  const scoped = (seal) => key && hmac(key, sequence(seal.seq)).subarray(0, 16).equals(seal.scope);
  if (!key) say('MISSING', 'B4', null);
  const policies = new Set();
  const named = new Set();
  const outside = [];
  let inside = 0;
  let valid = 0;
  let undecided = 0;
  for (const s of segments) {
    const bytes = members.get(recordsOf(chain, s.first));
    const rows = bytes ? orNull(() => readRows(bytes)) : [];
    if (!rows) say('ALTERED', 'B3', s.first);
    const given = new Set();
    for (const row of rows ?? []) {
      given.add(row.seq);
      if (row.seq < s.first || row.seq >= s.first + s.n) { say('INSERTED', 'B3', row.seq); continue; }
      const seal = s.slots.get(row.seq)?.seal;
      if (!seal || s.flagged.has(row.seq)) continue;
      const state = readRecord(row, seal, filter, schemas);
      if (state === 'UNDECIDED') { undecided += 1; continue; }
      if (state !== 'VALID') { say(state, 'B3', row.seq); continue; }
      const policy = row.policy.toString('hex');
      if (!policies.has(policy) && !policyThere(members, policy)) say('MISSING', 'B3', row.seq);
      policies.add(policy);
      for (const d of pairOf(members.get(`policies/${policy}.txt`), policy) ?? []) named.add(`policies/${d}.toml`);
      named.add(`policies/${policy}.txt`).add(`schemas/${row.content_schema.toString('hex')}.avsc`);
      const { read, header } = schemas.get(row.content_schema);
      const extension = decodeSingle(header, read, row.content).extension?.schema;
      if (extension) named.add(`schemas/${extension.toString('hex')}.avsc`);
      if (key && !scoped(seal)) { outside.push(row.seq); continue; }
      inside += 1;
      if (s.good.has(row.seq)) valid += 1;
    }
    if (!key || filter.correlation !== null || filter.actor !== null) continue;
    let run = null;
    for (const seq of [...s.slots.keys()].sort((a, b) => a - b)) {
      const { seal } = s.slots.get(seq);
      const wanted = seal.kind === 'EVENT' && ofClass(filter, seal) && inTime(filter, seal) && !s.flagged.has(seq);
      if (!wanted || given.has(seq) || !scoped(seal)) continue;
      if (run && run.seq + run.count === seq) run.count += 1;
      else { say('MISSING', 'B4', seq); run = findings.at(-1); }
    }
  }
  if (inside) for (const seq of outside) say('INSERTED', 'B4', seq);
  else if (outside.length) say('INSERTED', 'B4', outside[0], outside.length);
  const seals = segments.flatMap((s) => [...s.slots.values()].map((i) => i.seal).filter((x) => !s.flagged.has(x.seq)));
  const first = seals.reduce((a, b) => (!a || b.seq < a.seq ? b : a), null);
  if (first?.seq && (filter.from === null || first.sealed_at >= filter.from)) say('MISSING', 'B4', 0, first.seq);
  return { findings, valid, undecided, named };
}

function sequence(seq) {
  const bytes = Buffer.alloc(8);
  bytes.writeBigUInt64BE(BigInt(seq));
  return bytes;
}

// Step 14 for a part of each chain, and B4: chains that a kept checkpoint or the end of a key names.
function checkMarks({ checkpoint, chains, results, keyring, manifest, filter }, say) {
  const marks = new Map();
  const mark = (chain, m) => marks.set(chain, [...marks.get(chain) ?? [], m]);
  for (const end of keyring.ends) end.marks.forEach((m, chain) => mark(chain, { ...m, count: 1 }));
  const origin = checkpoint ? parseCheckpoint(checkpoint).origin : null;
  if (origin?.startsWith(`${manifest.deployment}/`)) {
    if (!chains.has(origin)) marks.delete(origin); // the checkpoint says more
    const kept = genuineCheckpoint(checkpoint, origin, keyring);
    if (!kept) say('UNKNOWN-KEY', chains.has(origin) ? 14 : 'B4', origin, 1);
    else if (kept.seconds * 1_000_000n <= manifest.made) mark(origin, { ...kept, count: kept.size });
  }
  for (const [chain, list] of marks) {
    const found = results.get(chain);
    if (!found) {
      if (chain.startsWith(`${manifest.deployment}/`)) say('MISSING', 'B4', chain, list[0].count);
      continue;
    }
    const last = found.segments.at(-1)?.items.at(-1)?.seal;
    const most = Math.max(...list.map((m) => m.size));
    if (most > found.end && (filter.to === null || (last && last.sealed_at < filter.to))) say('TRUNCATED', 14, chain, most - found.end, found.end);
    const forked = list.sort((a, b) => a.size - b.size).find((m) => {
      const root = m.size <= found.end ? rootAt(found.segments, m.size) : null;
      return root && !root.equals(m.root);
    });
    if (forked) say('FORKED', 14, chain, forked.size);
  }
}

// ---- all of it

export function verifyBundle(bundle, root, checkpoint) {
  const { members, manifest } = bundle;
  const findings = [];
  const b1 = (finding) => findings.push({ finding, step: 'B1', chain: '', seq: null, count: 1 });
  const { chains: all, strays } = listSegments(members);
  const chains = new Map([...all].filter(([chain]) => chain.startsWith(`${manifest.deployment}/`)));
  checkMembers(bundle, chains, b1);
  // The end of a key lies under a name that a tar can carry.
  const asArchived = (name) => name.replace(/^keys\/([0-9a-f]{64})\/([0-9a-f]{64})\.end$/, 'keys/$1-$2.end');
  const keyring = readCertificates(new Map([...members].map(([name, bytes]) => [asArchived(name), bytes])), root, findings);
  for (const key of strays) if (key.startsWith(`chains/${manifest.deployment}/`)) findings.push({ finding: 'INSERTED', step: 2, chain: '', seq: null, count: 1 });
  checkSignature(bundle, keyring, b1);

  const schemas = new Schemas(members);
  const results = new Map();
  const named = new Set();
  let [seals, valid, undecided, sworn] = [0, 0, 0, 0n];
  for (const [chain, list] of chains) {
    const result = checkChain(chain, list, keyring, list[0].first);
    results.set(chain, result);
    const records = checkRecords(result, bundle, schemas);
    findings.push(...result.findings, ...result.segments.flatMap((s) => s.findings), ...records.findings);
    seals += result.segments.reduce((sum, s) => sum + s.items.length, 0);
    valid += records.valid;
    undecided += records.undecided;
    records.named.forEach((name) => named.add(name));
    for (const s of result.segments) if (s.vouched && s.checkpoint.seconds > sworn) sworn = s.checkpoint.seconds;
  }
  if (sworn * 1_000_000n > manifest.made + 60_000_000n) b1('ALTERED');
  checkMarks({ checkpoint, chains, results, keyring, manifest, filter: bundle.filter }, (finding, step, chain, count, seq = 0) => {
    findings.push({ finding, step, chain, seq, count });
  });
  if (!findings.length && !undecided) {
    for (const name of members.keys()) if (/^(schemas|policies)\//.test(name) && !named.has(name)) b1('INSERTED');
  }
  const outcome = chains.size && !findings.length && !undecided ? 'good' : 'not verified';
  return { outcome, findings, valid, seals };
}
