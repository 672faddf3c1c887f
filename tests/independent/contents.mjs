// Step 11: the contents objects of a segment, and what they say of each seal (§3, §7).
import { decodeSingle, readContainer, Refused, sha256 } from './avro.mjs';
import { contentsName } from './archive.mjs';
import { openGcm } from './hpke.mjs';
import { contentDigest, dateOf, parseRows, SCHEMA, whole } from './records.mjs';

const DEPLOYMENT = '@deployment';
const NO_ID = Buffer.alloc(16);

const refusedAsNull = (fn) => {
  try { return fn(); } catch (e) { if (e instanceof Refused) return null; throw e; }
};

// The rows of a frame; undefined for want of the key, null if it is not what it should be.
function openFrame(frame, keys) {
  const key = keys.get(frame.key_id.toString('hex'));
  if (!key) return undefined;
  const data = Buffer.from(`sealtrail/frame/v1\n${frame.chain}\n${frame.first_seq}\n${frame.log_class}\n${frame.tenant}`);
  const secret = key.open(frame.wrapped_key, data);
  if (secret?.length !== 32) return null;
  const plain = openGcm(secret, frame.nonce, data, frame.ciphertext);
  return plain && refusedAsNull(() => parseRows(plain));
}

// { state: 'MISSING' | 'ALTERED' | 'UNDECIDED' | 'READ', name, reference, rows: [{ …row, frame }] }
function openObject(reference, { record, objects, keys }) {
  const name = contentsName(reference.name);
  const result = (state, rows = []) => ({ state, name, reference, rows });
  const bytes = objects.get(reference.name);
  if (!bytes) return result('MISSING');
  if (BigInt(bytes.length) !== reference.size || !sha256(bytes).equals(reference.sha256)) return result('ALTERED');
  if (name?.chain !== record.chain || name.first !== record.first_seq) return result('ALTERED');
  const frames = refusedAsNull(() => readContainer(bytes, SCHEMA.frame));
  if (!frames) return result('ALTERED');
  const rows = [];
  let closed = false;
  for (const frame of frames) {
    if (frame.version !== 1 || frame.chain !== record.chain || whole(frame.first_seq) !== record.first_seq
      || frame.log_class !== name.logClass) return result('ALTERED');
    const opened = openFrame(frame, keys);
    if (opened === null) return result('ALTERED');
    if (opened === undefined) closed = true;
    else for (const row of opened) rows.push(Object.assign(row, { frame, seq: whole(row.seq) }));
  }
  const count = BigInt(rows.length);
  if (closed ? count > reference.rows : count !== reference.rows) return result('ALTERED', rows);
  return result(closed ? 'UNDECIDED' : 'READ', rows);
}

// The event or note of a row: { value }, or { state } where it is not one.
function readContent(row, seal, schemas) {
  const schema = schemas.get(row.content_schema);
  const isEvent = seal.kind === 'EVENT';
  const isNote = row.content_schema.toString('hex') === SCHEMA.note;
  if (isEvent === isNote) return { state: 'ALTERED' };
  if (!schema) return { state: 'UNDECIDED' };
  const value = refusedAsNull(() => decodeSingle(schema.header, schema.read, row.content));
  if (!value) return { state: 'ALTERED' };
  const id = isEvent ? value.event_id : NO_ID;
  const tenant = isEvent ? value.tenant : DEPLOYMENT;
  if (!id?.equals(row.event_id) || tenant !== row.frame.tenant) return { state: 'ALTERED' };
  return { value };
}

// Adds findings of step 11 to the segment's; keeps in it good the seals whose content was read, and returns those contents.
export function checkContents(segment, { objects, keys, schemas }) {
  const { record, slots, flagged, first } = segment;
  const { chain } = record;
  const say = (finding, seq, count = 1) => segment.findings.push({ finding, step: 11, chain, seq, count });
  const opened = record.contents.map((reference) => openObject(reference, { record, objects, keys }));

  const rows = new Map();
  for (const object of opened) {
    if (object.state === 'ALTERED' || object.state === 'MISSING') continue;
    for (const row of object.rows) {
      if (flagged.has(row.seq)) continue;
      if (!slots.has(row.seq) || rows.has(row.seq)) say('INSERTED', row.seq);
      else rows.set(row.seq, row);
    }
  }
  const unread = new Set(); // seals of which something else was said, or nothing can be
  const waiting = () => [...slots.values()].map((i) => i.seal).filter((s) => !rows.has(s.seq) && !unread.has(s.seq) && !flagged.has(s.seq))
    .sort((a, b) => a.seq - b.seq);
  for (const object of opened) {
    if (object.state === 'READ') continue;
    // Which seals' contents such an object held, its name tells: their class and, as lock date, their retain_until.
    const stated = Math.max(0, whole(object.reference.rows));
    const held = waiting().filter((s) => s.log_class.toLowerCase() === object.name?.logClass && dateOf(s.retain_until) === object.name.date)
      .slice(0, stated);
    if (object.state !== 'UNDECIDED') say(object.state, held[0]?.seq ?? first, stated);
    for (const s of held) unread.add(s.seq);
  }
  for (const s of waiting()) { say('MISSING', s.seq); unread.add(s.seq); }

  const contents = [];
  for (const [seq, row] of rows) {
    const { seal } = slots.get(seq);
    const fits = contentDigest(row).equals(seal.content_digest) && row.frame.log_class === seal.log_class.toLowerCase();
    const { state, value } = fits ? readContent(row, seal, schemas) : { state: 'ALTERED' };
    if (state === 'ALTERED') say('ALTERED', seq);
    if (state) unread.add(seq);
    else contents.push({ seq, seal, value });
  }
  segment.good = new Set([...segment.good].filter((seq) => !unread.has(seq)));
  segment.allRead = segment.vouched && contents.length === segment.n;
  return contents.sort((a, b) => a.seq - b.seq);
}
