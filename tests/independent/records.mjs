// The records of the format: their headers and digests (§1), and their fields (§2, §7, §9, §11).
import { compile, decode, decodeSingle, readContainer, refuse, sha256 } from './avro.mjs';

const hex = (s) => Buffer.from(s, 'hex');
export const HEADER = {
  seal: hex('c3010f31d621b7d1b129'),
  note: hex('c301a37c246cca05174a'),
  sealedEvent: hex('c3016fea4218c0d715f5'),
};
export const SCHEMA = {
  note: '20c17be98a09bdf8e33accc63198e752d44aa40201b08ccedcdcdd204bc4cfdd',
  segment: '1ecafd9859ed312becb4c865f19a477232682e80b84730f92bf54929103e86d1',
  frame: '0d2cb2aecb879393d585a955b793e00ee9abe0ee464d7b61846973112ee5a18a',
  row: '58c89bfb73c80342cea996ecb29606a2d282499f8840e0d00c74ec790bde4a28',
  runSession: '599c961eca13d2e98d71e36e93a6262cc61eed60ae1be9fb9e06cf9b89f76cd1',
};

const fixed = (size) => ({ type: 'fixed', name: `Fixed${size}`, size });
const symbols = (name, s) => ({ type: 'enum', name, symbols: s.split(' ') });
const record = (name, fields) => ({ type: 'record', name, fields: Object.entries(fields).map(([n, type]) => ({ name: n, type })) });

const readSeal = compile(record('Seal', {
  prev: fixed(32), content_digest: fixed(32), scope: fixed(16), version: 'int',
  kind: symbols('Kind', 'GENESIS EVENT DUPLICATE REJECTED GAP HEARTBEAT'),
  reason: symbols('Reason', 'NONE UNDECODABLE UNKNOWN_SCHEMA TOO_LARGE CONTRACT NOT_AUTHENTIC NOT_ENTITLED WRONG_REGION SEQUENCE_WILD UNPROCESSABLE EXPIRED NOT_DATA'),
  log_class: symbols('LogClass', 'SECURITY OPERATIONAL COMPLIANCE ADMIN DEBUG NONE'),
  signed: 'boolean', routes: 'int', seq: 'long', source_offset: 'long', source_count: 'long',
  sealed_at: 'long', retain_until: 'long', chain: 'string',
}));
const contentFields = { salt: fixed(16), policy: fixed(32), content_schema: fixed(32), event_id: fixed(16), content: 'bytes' };
const readRows = compile({ type: 'array', items: record('Row', { seq: 'long', ...contentFields }) });
const readSealedEvent = compile(record('SealedEvent', {
  seal: 'bytes', ...contentFields,
  signature: ['null', record('Signature', { key_id: fixed(32), value: fixed(64) })],
}));
const readSession = compile(record('RunSession', { statement: 'bytes', wrapped_key: 'bytes', key_id: fixed(32), signature: fixed(64) }));
const readRun = compile(record('RunStatement', {
  source: 'string', instance: 'string', epoch: fixed(16), audience: 'string', pipeline_key: fixed(32), wrapped_key_digest: fixed(32),
}));

const NAME = '[A-Za-z0-9][A-Za-z0-9._-]{0,248}';
export const CHAIN = `${NAME}/${NAME}/${NAME}\\.[0-9a-f]{8}\\.(?:0|[1-9][0-9]*)/(?:0|[1-9][0-9]*)`;
const chainPattern = new RegExp(`^${CHAIN}$`);
export const isChain = (s) => chainPattern.test(s) && !s.includes('\n');

export function dateOf(ms) {
  const date = new Date(Number(ms));
  return Number.isNaN(date.getTime()) ? 'beyond any date' : date.toISOString().slice(0, 10);
}

// A number that no archive reaches is kept as Infinity: it is out of every range, and no two of them are neighbours.
export const whole = (long) => (long <= BigInt(Number.MAX_SAFE_INTEGER) ? Number(long) : Infinity);

export function parseSeal(bytes) {
  if (bytes.length > 65535) refuse('larger than a log entry');
  const s = decodeSingle(HEADER.seal, readSeal, bytes);
  if (s.version !== 1) refuse('version');
  if (s.routes < 0 || s.routes > 15) refuse('routes');
  if (s.seq < 0n || s.source_offset < 0n || s.source_count < 0n) refuse('negative number');
  if (!isChain(s.chain)) refuse('name of a chain');
  s.seq = whole(s.seq);
  return s;
}

export const leafHash = (seal) => sha256(Buffer.from([0]), seal);
export const signedBytes = (leaf) => Buffer.concat([Buffer.from('sealtrail/seal/v1\n'), leaf]);
export const contentDigest = (r) => sha256('sealtrail/content/v1\n', r.salt, r.policy, r.content_schema, r.event_id, r.content);

// §2: how many offsets a seal of a kind may account for.
export function countFits(s) {
  if (s.kind === 'GAP') return s.source_count >= 1n;
  return s.source_count === (s.kind === 'GENESIS' || s.kind === 'HEARTBEAT' ? 0n : 1n);
}

export function parseSegment(bytes) {
  const records = readContainer(bytes, SCHEMA.segment);
  if (records.length !== 1) refuse('a segment is one record');
  const s = records[0];
  if (s.version !== 1) refuse('version');
  if (bytes.length > 2 ** 28 || s.seals.length * 64 > bytes.length) refuse('size, or more seals than it can hold');
  if (!isChain(s.chain) || s.first_seq < 0n) refuse('chain or first seq');
  s.first_seq = whole(s.first_seq);
  for (const r of s.contents) {
    if (/[\x00-\x20\x7f-\x9f]/.test(r.name + r.version)) refuse('reference with a blank or control character');
    if (r.size < 0n || r.rows < 0n) refuse('reference of a negative number');
  }
  for (const g of s.signatures) g.seq = g.seq < 0n ? -1 : whole(g.seq);
  return s;
}

export const parseRows = (bytes) => decode(readRows, bytes);
export const parseSealedEvent = (bytes) => decodeSingle(HEADER.sealedEvent, readSealedEvent, bytes);
export function parseSession(bytes) {
  const session = decode(readSession, bytes);
  return { ...session, run: decode(readRun, session.statement) };
}
