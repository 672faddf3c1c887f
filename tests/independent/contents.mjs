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

// { name, reference, rows: [{ …row, frame }], failed: what is wrong with it or its frames, closed: whether a key is lacking }
function openObject(reference, { record, objects, keys }) {
  const result = { name: contentsName(reference.name), reference, rows: [], failed: [], closed: false };
  const bytes = objects.get(reference.name);
  if (!bytes) return { ...result, failed: ['MISSING'] };
  const same = BigInt(bytes.length) === reference.size && sha256(bytes).equals(reference.sha256);
  const frames = same && refusedAsNull(() => readContainer(bytes, SCHEMA.frame));
  if (!frames || frames.some((f) => f.version !== 1)) return { ...result, failed: ['ALTERED'] };
  for (const frame of frames) {
    if (frame.chain !== record.chain || whole(frame.first_seq) !== record.first_seq) { result.failed.push('INSERTED'); continue; }
    const opened = openFrame(frame, keys);
    if (opened === null) result.failed.push('ALTERED');
    else if (opened === undefined) result.closed = true;
    else for (const row of opened) result.rows.push(Object.assign(row, { frame, seq: whole(row.seq) }));
  }
  return result;
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
  const { record, slots, flagged, first, n } = segment;
  const { chain } = record;
  const say = (finding, seq, count = 1) => segment.findings.push({ finding, step: 11, chain, seq, count });
  const opened = record.contents.map((reference) => openObject(reference, { record, objects, keys }));

  const rows = new Map();
  for (const object of opened) {
    object.counted = 0;
    for (const row of object.rows) {
      if (row.seq < first || row.seq >= first + n || rows.has(row.seq)) { say('INSERTED', row.seq); continue; }
      rows.set(row.seq, row);
      object.counted++;
    }
  }
  const unread = new Set(); // seals of which something else was said, or nothing can be
  const waiting = () => [...slots.values()].map((i) => i.seal).filter((s) => !rows.has(s.seq) && !unread.has(s.seq) && !flagged.has(s.seq))
    .sort((a, b) => a.seq - b.seq);
  const lacking = waiting();
  for (const object of opened) {
    // Which seals' contents such an object held, its name tells: their class and, as a rule, their retain_until.
    const ofClass = lacking.filter((s) => s.log_class.toLowerCase() === object.name?.logClass);
    const ofDate = ofClass.filter((s) => dateOf(s.retain_until) === object.name.date);
    const held = [ofDate, ofClass, lacking].find((list) => list.length) ?? [];
    for (const finding of object.failed) {
      say(finding, held[0]?.seq ?? first, Math.max(1, whole(object.reference.rows)));
      for (const s of held) unread.add(s.seq);
    }
    const read = !object.closed && !object.failed.length;
    if (read && !lacking.length && BigInt(object.counted) !== object.reference.rows) say('ALTERED', first);
  }
  if (opened.some((object) => object.closed)) for (const s of lacking) unread.add(s.seq);
  for (const s of waiting()) { say('MISSING', s.seq); unread.add(s.seq); }

  const contents = [];
  for (const [seq, row] of rows) {
    if (!slots.has(seq) || flagged.has(seq)) continue;
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
