// HPKE base mode (RFC 9180): DHKEM(X25519, HKDF-SHA256), HKDF-SHA256, AES-256-GCM. One message per context.
import { createDecipheriv, createHmac, createPrivateKey, createPublicKey, diffieHellman } from 'node:crypto';
import { sha256 } from './avro.mjs';

const KEM = Buffer.from('KEM\x00\x20', 'latin1');
const SUITE = Buffer.from('HPKE\x00\x20\x00\x01\x00\x02', 'latin1');
const NOTHING = Buffer.alloc(0);
const PKCS8_X25519 = Buffer.from('302e020100300506032b656e04220420', 'hex');

const hmac = (key, ...parts) => {
  const h = createHmac('sha256', key);
  for (const p of parts) h.update(p);
  return h.digest();
};
const extract = (suite, salt, label, ikm) => hmac(salt, 'HPKE-v1', suite, label, ikm);
const expand = (suite, prk, label, info, size) => // size at most 32: one block of HKDF
  hmac(prk, Buffer.from([0, size]), 'HPKE-v1', suite, label, info, Buffer.from([1])).subarray(0, size);

export function openGcm(key, nonce, aad, sealed) { // null if it does not authenticate
  if (sealed.length < 16) return null;
  const d = createDecipheriv('aes-256-gcm', key, nonce, { authTagLength: 16 });
  d.setAAD(aad);
  d.setAuthTag(sealed.subarray(-16));
  try { return Buffer.concat([d.update(sealed.subarray(0, -16)), d.final()]); } catch { return null; }
}

export class PrivateKey {
  constructor(raw) {
    this.key = createPrivateKey({ key: Buffer.concat([PKCS8_X25519, raw]), format: 'der', type: 'pkcs8' });
    this.public = Buffer.from(createPublicKey(this.key).export({ format: 'jwk' }).x, 'base64url');
    this.id = sha256(this.public).toString('hex');
  }

  open(wrapped, info) {
    if (wrapped.length < 32) return null;
    const enc = wrapped.subarray(0, 32);
    let dh;
    try {
      const jwk = { kty: 'OKP', crv: 'X25519', x: enc.toString('base64url') };
      dh = diffieHellman({ privateKey: this.key, publicKey: createPublicKey({ format: 'jwk', key: jwk }) });
    } catch { return null; } // a point of low order
    const shared = expand(KEM, extract(KEM, NOTHING, 'eae_prk', dh), 'shared_secret', Buffer.concat([enc, this.public]), 32);
    const context = Buffer.concat([Buffer.from([0]), extract(SUITE, NOTHING, 'psk_id_hash', NOTHING), extract(SUITE, NOTHING, 'info_hash', info)]);
    const secret = extract(SUITE, shared, 'secret', NOTHING);
    const key = expand(SUITE, secret, 'key', context, 32);
    return openGcm(key, expand(SUITE, secret, 'base_nonce', context, 12), NOTHING, wrapped.subarray(32));
  }
}
