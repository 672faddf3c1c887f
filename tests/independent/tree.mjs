// RFC 6962 over the seals of a chain (§4); a tree is held as its frontier.
import { sha256 } from './avro.mjs';

const ONE = Buffer.from([1]);
export const node = (left, right) => sha256(ONE, left, right);

const bits = (n) => { let c = 0; for (let m = BigInt(n); m; m >>= 1n) c += Number(m & 1n); return c; };

export class Tree {
  constructor(size = 0, frontier = []) { this.size = size; this.frontier = [...frontier]; }
  static fits(size, frontier) { return bits(size) === frontier.length; }
  copy() { return new Tree(this.size, this.frontier); }
  add(leaf) {
    let hash = leaf;
    for (let n = this.size; n % 2 === 1; n = Math.floor(n / 2)) hash = node(this.frontier.pop(), hash);
    this.frontier.push(hash);
    this.size++;
    return this;
  }
  root() {
    if (!this.frontier.length) return sha256('');
    return this.frontier.reduceRight((right, left) => node(left, right));
  }
  same(frontier) {
    return this.frontier.length === frontier.length && this.frontier.every((h, i) => h.equals(frontier[i]));
  }
}

// RFC 9162 §2.1.3.2
export function rootOf(leaf, index, size, path) {
  if (index >= size) return null;
  let fn = BigInt(index);
  let sn = BigInt(size) - 1n;
  let r = leaf;
  for (const p of path) {
    if (sn === 0n) return null;
    if (fn & 1n || fn === sn) {
      r = node(p, r);
      while (!(fn & 1n) && fn !== 0n) { fn >>= 1n; sn >>= 1n; }
    } else {
      r = node(r, p);
    }
    fn >>= 1n;
    sn >>= 1n;
  }
  return sn === 0n ? r : null;
}
