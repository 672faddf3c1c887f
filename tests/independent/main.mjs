// node main.mjs archive <folder> … | archives <expected.json> <folder> … | decode <kind> <file>…
import fs from 'node:fs';
import path from 'node:path';
import { parseArgs } from 'node:util';
import { readFolder, readKeys } from './archive.mjs';
import { Refused } from './avro.mjs';
import { parseCertificate, parseCheckpoint, parseEnd, parseVkey } from './note.mjs';
import { checkProof } from './proof.mjs';
import { parseSeal, parseSegment } from './records.mjs';
import { verifyArchive } from './verify.mjs';

const { values: options, positionals: [command, ...args] } = parseArgs({
  allowPositionals: true,
  options: { root: { type: 'string' }, keys: { type: 'string' }, checkpoint: { type: 'string' } },
});
const EXIT = { good: 0, intact: 5, 'not verified': 1 };
const readRoot = () => parseVkey(fs.readFileSync(options.root, 'utf8'));
const print = (value) => process.stdout.write(`${JSON.stringify(value)}\n`);

function archive(folder) {
  const checkpoint = options.checkpoint && fs.readFileSync(options.checkpoint);
  const result = verifyArchive({ objects: readFolder(folder), root: readRoot(), keys: readKeys(options.keys), checkpoint });
  print(result);
  process.exitCode = EXIT[result.outcome];
}

function archives(listPath, folder) {
  const here = path.dirname(listPath);
  const untouched = readFolder(folder);
  const root = readRoot();
  const keys = readKeys(options.keys);
  const results = JSON.parse(fs.readFileSync(listPath, 'utf8')).map((c) => {
    const objects = new Map(untouched);
    const changed = c.folder && path.join(here, c.folder); // a case that only removes has no folder
    for (const [key, bytes] of changed && fs.existsSync(changed) ? readFolder(changed) : []) objects.set(key, bytes);
    for (const key of c.gone) objects.delete(key);
    const checkpoint = c.checkpoint ? fs.readFileSync(path.join(here, 'trusted.checkpoint')) : null;
    const { outcome, findings, valid, seals } = verifyArchive({ objects, root, keys, checkpoint });
    return { name: c.name, outcome, findings, valid, seals };
  });
  print(results);
}

const DECODERS = {
  seal: parseSeal,
  segment: parseSegment,
  checkpoint: parseCheckpoint,
  certificate: (bytes) => parseCertificate(bytes, readRoot()),
  end: parseEnd,
  proof: (bytes) => checkProof(bytes),
};

function decode(kind, ...files) {
  for (const file of files) {
    try {
      DECODERS[kind](fs.readFileSync(file));
      print({ file, ok: true, error: null });
    } catch (e) {
      if (!(e instanceof Refused)) throw e;
      print({ file, ok: false, error: e.message });
    }
  }
}

const COMMANDS = { archive, archives, decode };
if (!Object.hasOwn(COMMANDS, command ?? '')) {
  process.stderr.write('usage: main.mjs archive|archives|decode … (see the first line of this file)\n');
  process.exitCode = 2;
} else {
  try { COMMANDS[command](...args); } catch (e) { // not an outcome: the question could not be put
    process.stderr.write(`${e.stack}\n`);
    process.exitCode = 2;
  }
}
