// Strict decoding of Avro (§1): every value has one accepted encoding.
import { createHash } from 'node:crypto';

export class Refused extends Error {}
export const refuse = (why) => { throw new Refused(why); };
export const sha256 = (...parts) => {
  const h = createHash('sha256');
  for (const p of parts) h.update(p);
  return h.digest();
};
const utf8 = new TextDecoder('utf-8', { fatal: true, ignoreBOM: true });
export const text = (bytes) => {
  try { return utf8.decode(bytes); } catch { return refuse('not UTF-8'); }
};

const MAX_DEPTH = 64;

export class Reader {
  constructor(bytes) { this.bytes = bytes; this.at = 0; this.depth = 0; }
  get left() { return this.bytes.length - this.at; }
  take(n) {
    if (n < 0 || n > this.left) refuse('truncated');
    return this.bytes.subarray(this.at, this.at += n);
  }
  byte() { return this.take(1)[0]; }
  long() {
    let raw = 0n;
    for (let shift = 0n; ; shift += 7n) {
      const b = this.byte();
      if (shift === 63n && b > 1) refuse('varint beyond 64 bits');
      if (shift > 0n && b === 0) refuse('varint not shortest');
      raw |= BigInt(b & 0x7f) << shift;
      if (b < 0x80) break;
    }
    return (raw >> 1n) ^ -(raw & 1n);
  }
  int() {
    const v = this.long();
    if (BigInt.asIntN(32, v) !== v) refuse('int beyond 32 bits');
    return Number(v);
  }
  length() {
    const v = this.long();
    if (v < 0n || v > BigInt(this.left)) refuse('length');
    return Number(v);
  }
  counted() { return this.take(this.length()); }
  end() { if (this.left) refuse('trailing bytes'); }
}

// ---- schemas become functions from a Reader to a value; long: BigInt, int: number, bytes and fixed: Buffer

const PRIMITIVES = {
  null: () => null,
  boolean: (r) => { const b = r.byte(); if (b > 1) refuse('boolean'); return b === 1; },
  int: (r) => r.int(),
  long: (r) => r.long(),
  float: (r) => r.take(4).readFloatLE(),
  double: (r) => r.take(8).readDoubleLE(),
  bytes: (r) => r.counted(),
  string: (r) => text(r.counted()),
};

const full = (s, ns) => (s.name.includes('.') ? s.name : (s.namespace ?? ns) ? `${s.namespace ?? ns}.${s.name}` : s.name);
const spaceOf = (name) => name.split('.').slice(0, -1).join('.');

function items(r, one) { // one block of positive count, or none; then zero
  const n = r.long();
  if (n === 0n) return;
  if (n < 0n || n > BigInt(r.left)) refuse('count of a block');
  for (let i = 0n; i < n; i++) one();
  if (r.long() !== 0n) refuse('more than one block');
}

export function compile(schema, names = new Map(), ns = '') {
  if (typeof schema === 'string') {
    if (Object.hasOwn(PRIMITIVES, schema)) return PRIMITIVES[schema];
    const name = schema.includes('.') || !ns ? schema : `${ns}.${schema}`;
    if (!names.has(name)) refuse(`unknown type ${schema}`);
    return (r) => names.get(name)(r); // looked up late: a type may contain itself
  }
  if (Array.isArray(schema)) {
    const branches = schema.map((s) => compile(s, names, ns));
    return (r) => {
      const i = r.long();
      if (i < 0n || i >= BigInt(branches.length)) refuse('branch of a union');
      return branches[Number(i)](r);
    };
  }
  const { type } = schema;
  if (type === 'array') {
    const item = compile(schema.items, names, ns);
    return (r) => { const out = []; items(r, () => out.push(item(r))); return out; };
  }
  if (type === 'map') {
    const value = compile(schema.values, names, ns);
    return (r) => {
      const out = new Map();
      items(r, () => {
        const key = PRIMITIVES.string(r);
        if (out.has(key)) refuse('repeated key');
        out.set(key, value(r));
      });
      return out;
    };
  }
  if (!['fixed', 'enum', 'record'].includes(type)) return compile(type, names, ns);
  const name = full(schema, ns);
  if (type === 'fixed') names.set(name, (r) => r.take(schema.size));
  if (type === 'enum') {
    names.set(name, (r) => schema.symbols[r.int()] ?? refuse('symbol of an enum'));
  }
  if (type === 'record') {
    names.set(name, null);
    const fields = schema.fields.map((f) => [f.name, compile(f.type, names, spaceOf(name))]);
    names.set(name, (r) => {
      if (++r.depth > MAX_DEPTH) refuse('too deep');
      const out = Object.create(null);
      for (const [key, read] of fields) out[key] = read(r);
      r.depth--;
      return out;
    });
  }
  return names.get(name);
}

export function decode(read, bytes) {
  const r = new Reader(bytes);
  const value = read(r);
  r.end();
  return value;
}

export function decodeSingle(header, read, bytes) {
  if (!bytes.subarray(0, 10).equals(header)) refuse('header of another schema');
  return decode(read, bytes.subarray(10));
}

// ---- Parsing Canonical Form and its CRC-64-AVRO: the header of a single-object encoding

function canonical(schema, ns = '') {
  if (typeof schema === 'string') {
    if (Object.hasOwn(PRIMITIVES, schema)) return JSON.stringify(schema);
    return JSON.stringify(schema.includes('.') || !ns ? schema : `${ns}.${schema}`);
  }
  if (Array.isArray(schema)) return `[${schema.map((s) => canonical(s, ns)).join(',')}]`;
  const { type } = schema;
  if (type === 'array') return `{"type":"array","items":${canonical(schema.items, ns)}}`;
  if (type === 'map') return `{"type":"map","values":${canonical(schema.values, ns)}}`;
  if (!['fixed', 'enum', 'record'].includes(type)) return canonical(type, ns);
  const name = full(schema, ns);
  const head = `{"name":${JSON.stringify(name)},"type":"${type}"`;
  if (type === 'fixed') return `${head},"size":${schema.size}}`;
  if (type === 'enum') return `${head},"symbols":${JSON.stringify(schema.symbols)}}`;
  const fields = schema.fields.map((f) => `{"name":${JSON.stringify(f.name)},"type":${canonical(f.type, spaceOf(name))}}`);
  return `${head},"fields":[${fields.join(',')}]}`;
}

const EMPTY = 0xc15d213aa4d7a795n;
const TABLE = Array.from({ length: 256 }, (_, i) => {
  let fp = BigInt(i);
  for (let k = 0; k < 8; k++) fp = (fp >> 1n) ^ (fp & 1n ? EMPTY : 0n);
  return fp;
});

export function headerOf(schema) {
  let fp = EMPTY;
  for (const b of Buffer.from(canonical(schema))) fp = (fp >> 8n) ^ TABLE[Number((fp ^ BigInt(b)) & 0xffn)];
  const out = Buffer.from([0xc3, 0x01, 0, 0, 0, 0, 0, 0, 0, 0]);
  out.writeBigUInt64LE(fp, 2);
  return out;
}

// ---- object container files, whose every byte is given (§1)

export function readContainer(bytes, schemaDigest) {
  const r = new Reader(bytes);
  const expect = (wanted, what) => {
    if (!r.take(wanted.length).equals(wanted)) refuse(what);
  };
  expect(Buffer.from('Obj\x01\x04\x16avro.schema', 'latin1'), 'start of the container');
  const schema = r.counted();
  const digest = sha256(schema);
  if (digest.toString('hex') !== schemaDigest) refuse('schema of another text');
  expect(Buffer.from('\x14avro.codec\x08null\x00', 'latin1'), 'codec');
  const sync = digest.subarray(0, 16);
  expect(sync, 'sync marker');
  const read = compile(JSON.parse(text(schema)));
  const records = [];
  while (r.left) {
    if (r.long() !== 1n) refuse('a block holds one record');
    records.push(decode(read, r.counted()));
    expect(sync, 'sync marker');
  }
  return records;
}
