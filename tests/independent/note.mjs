// Signed notes, vkeys, checkpoints (§4), statements (§5) and certificates (§6).
import { createPublicKey, verify } from 'node:crypto';
import { Refused, refuse, sha256, text } from './avro.mjs';
import { isChain, whole } from './records.mjs';

const PLAIN = 1; // Ed25519 over the text
const TIMED = 4; // cosignature/v1

export function base64(s) { // one form: padding, no stray bits, no white space
  const bytes = Buffer.from(s, 'base64');
  if (!s || bytes.toString('base64') !== s) refuse('base64');
  return bytes;
}

const typed = (type, key) => Buffer.concat([Buffer.from([type]), key]);
export const keyHash = (name, type, key) => sha256(name, '\n', typed(type, key)).subarray(0, 4);

export class PublicKey {
  constructor(bytes) { this.bytes = bytes; this.id = sha256(bytes).toString('hex'); }
  verifies(message, signature) {
    try {
      this.key ??= createPublicKey({ format: 'jwk', key: { kty: 'OKP', crv: 'Ed25519', x: this.bytes.toString('base64url') } });
      return verify(null, message, this.key, signature);
    } catch { return false; }
  }
  // Which of a note's signatures is this key's plain one?
  signed(note, name) {
    const hash = keyHash(name, PLAIN, this.bytes);
    return note.signatures.some((s) => s.name === name && s.hash.equals(hash) && this.verifies(note.signedText, s.value));
  }
}

export function parseVkey(s) {
  const m = /^([^\s+]+)\+([0-9a-f]{8})\+(\S+)$/.exec(s.trim()) ?? refuse('vkey');
  const key = base64(m[3]);
  if (key.length !== 33 || key[0] !== PLAIN) refuse('vkey of another type');
  if (keyHash(m[1], PLAIN, key.subarray(1)).toString('hex') !== m[2]) refuse('key id of the vkey');
  return { name: m[1], key: new PublicKey(key.subarray(1)) };
}

// A decimal of a note: as large as an Avro long at most.
function decimal(s) {
  const n = BigInt(s);
  if (n >= 2n ** 63n) refuse('number beyond 63 bits');
  return whole(n);
}

export function parseNote(bytes, most = 65536) {
  if (bytes.length > most) refuse('note too large');
  const all = text(bytes);
  if (/[^\P{Cc}\n]/u.test(all)) refuse('control character');
  const cut = all.lastIndexOf('\n\n');
  if (cut < 0 || !all.endsWith('\n')) refuse('no note');
  const body = all.slice(0, cut + 1);
  const signatures = all.slice(cut + 2, -1).split('\n').map((line) => {
    const m = /^— ([^\s+]+) (\S+)$/.exec(line) ?? refuse('signature line');
    const raw = base64(m[2]);
    if (raw.length < 5) refuse('signature too short');
    return { name: m[1], hash: raw.subarray(0, 4), value: raw.subarray(4) };
  });
  return { text: body, signedText: Buffer.from(body), signatures };
}

// ---- checkpoints

export function parseCheckpoint(bytes) {
  const note = parseNote(bytes);
  const m = /^([^\n]+)\n(0|[1-9][0-9]*)\n([^\n]+)\n$/.exec(note.text) ?? refuse('text of a checkpoint');
  const root = base64(m[3]);
  if (!isChain(m[1]) || root.length !== 32) refuse('origin or root');
  if (note.signatures.length !== 2 || note.signatures.some((s) => s.name !== m[1])) refuse('two signatures of the chain');
  const [plain, timed] = note.signatures;
  if (plain.value.length !== 64 || timed.value.length !== 72) refuse('two signatures, plain and timed');
  const seconds = timed.value.readBigUInt64BE();
  return { note, origin: m[1], size: decimal(m[2]), root, plain, timed, seconds };
}

// The certified archive key of which both signatures are, or null.
export function checkpointKey(cp, keyring) {
  const message = Buffer.from(`cosignature/v1\ntime ${cp.seconds}\n${cp.note.text}`);
  const at = cp.seconds * 1_000_000n;
  return keyring.of('archive', cp.origin).find((c) => c.covers(at) && cp.size <= keyring.limit(c.id, cp.origin)
    && cp.plain.hash.equals(keyHash(cp.origin, PLAIN, c.key.bytes))
    && cp.timed.hash.equals(keyHash(cp.origin, TIMED, c.key.bytes))
    && c.key.verifies(cp.note.signedText, cp.plain.value)
    && c.key.verifies(message, cp.timed.value.subarray(8))) ?? null;
}

// Genuine as in step 10: { …checkpoint, key }, or null.
export function genuineCheckpoint(bytes, chain, keyring) {
  try {
    const cp = parseCheckpoint(bytes);
    const cert = cp.origin === chain ? checkpointKey(cp, keyring) : null;
    return cert && { ...cp, cert };
  } catch (e) {
    if (e instanceof Refused) return null;
    throw e;
  }
}

// ---- statements

const STATEMENT = /^sealtrail\/segment\/v1\nchain ([^\n]+)\nfirst (0|[1-9][0-9]*)\ncount (0|[1-9][0-9]*)\nprevious ([0-9a-f]{64})\nreferences ([0-9a-f]{64})\n$/;

export function parseStatement(bytes, chain) {
  const note = parseNote(bytes);
  const m = STATEMENT.exec(note.text) ?? refuse('text of a statement');
  if (note.signatures.length !== 1 || note.signatures[0].name !== chain) refuse('one signature of the chain');
  return { note, chain: m[1], first: decimal(m[2]), count: decimal(m[3]), previous: m[4], references: m[5] };
}

// ---- certificates

const ROLES = {
  source: 'Ed25519', sealer: 'Ed25519', archive: 'Ed25519', auditor: 'Ed25519', operator: 'Ed25519',
  pipeline: 'X25519', quarantine: 'X25519', 'tenant-data': 'X25519', 'tenant-subject': 'X25519',
};
const CERTIFICATE = /^sealtrail\/certificate\/v1\nrole (\S+)\nname ([^\n]+)\nalgorithm (\S+)\npublic (\S+)\nkey-id ([0-9a-f]{64})\nnot-before (\S+)\nnot-after (\S+)\n$/;

function time(s) { // microseconds since 1970
  const ms = /^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ$/.test(s) ? Date.parse(s) : NaN;
  if (Number.isNaN(ms) || new Date(ms).toISOString() !== s.replace('Z', '.000Z')) refuse('time');
  return BigInt(ms) * 1000n;
}

export function parseCertificate(bytes, root) {
  const note = parseNote(bytes);
  if (note.signatures.length !== 1 || !root.key.signed(note, root.name)) refuse('not signed by the root');
  const m = CERTIFICATE.exec(note.text) ?? refuse('text of a certificate');
  const [, role, name, algorithm, pub, id, from, until] = m;
  const key = new PublicKey(base64(pub));
  if (key.bytes.length !== 32 || key.id !== id) refuse('key id');
  const known = Object.hasOwn(ROLES, role);
  if (known && ROLES[role] !== algorithm) refuse('algorithm of the role');
  const [notBefore, notAfter] = [time(from), time(until)];
  return { role, name, key, id, known, notBefore, covers: (micros) => notBefore <= micros && micros <= notAfter };
}

// ---- ends of keys

const END = /^sealtrail\/end\/v1\nrole (source|sealer|archive)\nkey-id ([0-9a-f]{64})\nsuccessor ([0-9a-f]{64})\nreason (superseded|compromised)\nmade (\S+)\n((?:chain \S+ (?:0|[1-9][0-9]*) \S+\n)*)$/;

export function parseEnd(bytes) {
  const note = parseNote(bytes, 1048576);
  const [, role, id, successor, , made, lines] = END.exec(note.text) ?? refuse('text of an end');
  const marks = new Map();
  let last = '';
  for (const line of lines.split('\n').slice(0, -1)) {
    const [, chain, size, root] = line.split(' ');
    if (!isChain(chain) || base64(root).length !== 32 || Buffer.compare(Buffer.from(last), Buffer.from(chain)) >= 0) refuse('line of a chain');
    marks.set(chain, { size: whole(BigInt(size)), root: base64(root) });
    last = chain;
  }
  return { note, role, id, successor, made: time(made), marks };
}

// §6: whether its successor may say so.
export function endCounts(end, keyring) {
  const [ended, next] = [keyring.find(end.role, end.id), keyring.find(end.role, end.successor)];
  return Boolean(ended && next && ended.name === next.name && next.notBefore > ended.notBefore && next.covers(end.made)
    && end.note.signatures.length === 1 && next.key.signed(end.note, next.name));
}

export class Keyring {
  constructor() { this.certificates = new Map(); this.ends = []; }
  // For how many seals of a chain a key counts.
  limit(id, chain) {
    const stated = this.ends.filter((e) => e.id === id).map((e) => e.marks.get(chain)?.size ?? 0);
    return stated.length ? Math.min(...stated) : Infinity;
  }
  add(cert) { if (cert.known) this.certificates.set(cert.id, cert); }
  of(role, chain) {
    return [...this.certificates.values()].filter((c) => c.role === role && chain.startsWith(`${c.name}/`));
  }
  find(role, id) {
    const c = this.certificates.get(id);
    return c?.role === role ? c : null;
  }
}
