// §14, the file: a ustar archive of which every byte outside the members is given.
import { refuse } from './avro.mjs';

const BLOCK = 512;
const PART = '[A-Za-z0-9@_][A-Za-z0-9@_.-]*';
const NAME = new RegExp(`^${PART}(/${PART})*$`);
const MOST = { members: 200_000, size: 2 ** 30 };

// The one header of a member.
function headerOf(name, size) {
  const bytes = Buffer.alloc(BLOCK);
  let cut = 0; // where the prefix ends
  if (name.length > 100) {
    cut = name.indexOf('/', name.length - 101);
    if (cut < 1 || cut > 155) refuse('name of a member');
  }
  bytes.write(cut ? name.slice(cut + 1) : name, 0, 'latin1');
  bytes.write('0000644\0' + '0000000\0' + '0000000\0', 100, 'latin1');
  bytes.write(`${size.toString(8).padStart(11, '0')}\0${'0'.repeat(11)}\0${' '.repeat(8)}0`, 124, 'latin1');
  bytes.write('ustar\x0000', 257, 'latin1');
  bytes.write(name.slice(0, cut), 345, 'latin1');
  const sum = bytes.reduce((a, b) => a + b, 0);
  bytes.write(`${sum.toString(8).padStart(6, '0')}\0 `, 148, 'latin1');
  return bytes;
}

const field = (block, at, size) => block.toString('latin1', at, at + size).replace(/\0+$/, '');

// Map from name to bytes, in order.
export function readTar(file) {
  const members = new Map();
  let at = 0;
  let before = '';
  for (;;) {
    const block = file.subarray(at, at + BLOCK);
    if (block.length < BLOCK) refuse('no end');
    if (block.every((b) => b === 0)) break;
    const size = /^[0-7]{11}\0$/.test(block.toString('latin1', 124, 136)) ? parseInt(block.toString('latin1', 124, 135), 8) : -1;
    const name = [field(block, 345, 155), field(block, 0, 100)].filter((s) => s).join('/');
    if (size < 0 || size > MOST.size || !NAME.test(name) || !headerOf(name, size).equals(block)) refuse('header of a member');
    if (members.size && name <= before) refuse('order of the members');
    const parts = name.split('/');
    if (parts.some((_, i) => i && members.has(parts.slice(0, i).join('/')))) refuse('a member within a member');
    if (members.size === MOST.members) refuse('too many members');
    const end = at + BLOCK + size;
    const next = at + BLOCK + Math.ceil(size / BLOCK) * BLOCK;
    if (next > file.length || file.subarray(end, next).some((b) => b !== 0)) refuse('end of a member');
    members.set(name, file.subarray(at + BLOCK, end));
    before = name;
    at = next;
  }
  if (file.length !== at + 2 * BLOCK || file.subarray(at).some((b) => b !== 0)) refuse('end of the file');
  return members;
}
