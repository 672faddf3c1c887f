// §11: a proof of one record, as a C2SP tlog-proof.
import { refuse, text } from './avro.mjs';
import { base64, checkpointKey, parseCheckpoint } from './note.mjs';
import { contentDigest, leafHash, parseSeal, parseSealedEvent, signedBytes, whole } from './records.mjs';
import { rootOf } from './tree.mjs';

const MAX_PATH = 63;

export function parseProof(bytes) {
  const all = text(bytes);
  const cut = all.indexOf('\n\n');
  if (cut < 0) refuse('no checkpoint');
  const [version, extra, index, ...hashes] = all.slice(0, cut).split('\n');
  if (version !== 'c2sp.org/tlog-proof@v1') refuse('version');
  if (!extra?.startsWith('extra ')) refuse('no extra line');
  const m = /^index (0|[1-9][0-9]*)$/.exec(index ?? '') ?? refuse('index');
  if (hashes.length > MAX_PATH) refuse('too many hashes');
  const path = hashes.map((h) => base64(h));
  if (path.some((h) => h.length !== 32)) refuse('hash');
  return {
    event: parseSealedEvent(base64(extra.slice(6))), index: whole(BigInt(m[1])), path,
    checkpoint: parseCheckpoint(Buffer.from(all.slice(cut + 2))),
  };
}

// Throws unless it holds. Without a keyring the signatures and the certificates are left out.
export function checkProof(bytes, keyring = null) {
  const { event, index, path, checkpoint } = parseProof(bytes);
  const seal = parseSeal(event.seal);
  const leaf = leafHash(event.seal);
  if (index !== seal.seq) refuse('index is not the seq of the seal');
  if (checkpoint.origin !== seal.chain) refuse('origin is not the chain of the seal');
  if (!rootOf(leaf, index, checkpoint.size, path)?.equals(checkpoint.root)) refuse('hashes do not lead to the root');
  if (!contentDigest(event).equals(seal.content_digest)) refuse('content is not what was sealed');
  if (seal.signed !== (event.signature !== null)) refuse('signature is there exactly if the seal says signed');
  if (!keyring) return;
  if (!checkpointKey(checkpoint, keyring)) refuse('checkpoint is not genuine');
  if (!event.signature) return;
  const cert = keyring.find('sealer', event.signature.key_id.toString('hex'));
  if (!cert || !seal.chain.startsWith(`${cert.name}/`) || !cert.covers(seal.sealed_at) || seal.seq >= keyring.limit(cert.id, seal.chain)) refuse('sealer is not certified');
  if (!cert.key.verifies(signedBytes(leaf), event.signature.value)) refuse('signature of the seal');
}
