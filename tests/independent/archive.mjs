// An archive as a map from object key to bytes, the names of its objects, and what it says of schemas.
import fs from 'node:fs';
import path from 'node:path';
import { compile, headerOf, sha256, text } from './avro.mjs';
import { PrivateKey } from './hpke.mjs';
import { CHAIN } from './records.mjs';

export function readFolder(folder) {
  const objects = new Map();
  const walk = (dir, prefix) => {
    for (const e of fs.readdirSync(dir, { withFileTypes: true })) {
      if (e.isDirectory()) walk(path.join(dir, e.name), `${prefix}${e.name}/`);
      else objects.set(prefix + e.name, fs.readFileSync(path.join(dir, e.name)));
    }
  };
  walk(folder, '');
  return objects;
}

export function readKeys(folder) {
  const keys = new Map();
  for (const name of folder ? fs.readdirSync(folder) : []) {
    if (!name.endsWith('.key')) continue;
    const key = new PrivateKey(fs.readFileSync(path.join(folder, name)));
    keys.set(key.id, key);
  }
  return keys;
}

const SEGMENT = new RegExp(`^chains/(${CHAIN})/segments/([0-9]{20})\\.avro$`);
const CONTENTS = new RegExp(`^contents/([a-z]+)/(\\d{4}-\\d\\d-\\d\\d)/(${CHAIN})-([0-9]{20})-([^/]+)\\.avro$`);

// { chains: Map(chain -> [{ first, key, bytes }] by first), strays: keys below chains/ that name no segment }
export function listSegments(objects) {
  const chains = new Map();
  const strays = [];
  for (const [key, bytes] of objects) {
    if (!key.startsWith('chains/')) continue;
    const m = SEGMENT.exec(key);
    if (!m || !Number.isSafeInteger(Number(m[2]))) { strays.push(key); continue; }
    if (!chains.has(m[1])) chains.set(m[1], []);
    chains.get(m[1]).push({ first: Number(m[2]), key, bytes });
  }
  for (const list of chains.values()) list.sort((a, b) => a.first - b.first);
  return { chains: new Map([...chains].sort(([a], [b]) => (a < b ? -1 : 1))), strays };
}

export function contentsName(key) {
  const m = CONTENTS.exec(key);
  return m && { logClass: m[1], date: m[2], chain: m[3], first: Number(m[4]) };
}

// The schemas that contents name; one whose text is not its name's is as good as absent (§8).
export class Schemas {
  constructor(objects) { this.objects = objects; this.known = new Map(); }
  get(digest) {
    const id = digest.toString('hex');
    if (!this.known.has(id)) this.known.set(id, this.load(id));
    return this.known.get(id);
  }
  load(id) {
    const bytes = this.objects.get(`schemas/${id}.avsc`);
    if (!bytes || sha256(bytes).toString('hex') !== id) return null;
    try {
      const schema = JSON.parse(text(bytes));
      return { header: headerOf(schema), read: compile(schema) };
    } catch { return null; } // a text that is no schema, whatever it does to the parser
  }
}
