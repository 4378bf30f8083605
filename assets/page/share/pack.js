// Packs a text into an address and unpacks it. The browser deflates it; base64url needs no escapes in an address.
export const LONGEST = 32_000;   // characters; browsers, messengers and mail carry as many in one piece
const MOST = 4_000_000;          // bytes of the unpacked text; a hostile link could fill the memory
const MARK = '#text=';

export const carried = (hash) => (hash.startsWith(MARK) ? hash.slice(MARK.length) : null);
export const addressOf = (packed) => `${location.origin}${location.pathname}${MARK}${packed}`;

export const pack = async (text) => {
  const deflated = new Blob([text]).stream().pipeThrough(new CompressionStream('deflate-raw'));
  const bytes = new Uint8Array(await new Response(deflated).arrayBuffer());
  return btoa(Array.from(bytes, (byte) => String.fromCharCode(byte)).join('')).replaceAll('+', '-').replaceAll('/', '_').replace(/=+$/, '');
};

// Throws an Error with a reason for people.
export const unpack = async (packed) => {
  if (packed.length > LONGEST) throw new Error(`It has ${packed.length.toLocaleString('en')} characters; at most ${LONGEST.toLocaleString('en')} are taken`);
  try {
    const bytes = Uint8Array.from(atob(packed.replaceAll('-', '+').replaceAll('_', '/')), (letter) => letter.charCodeAt(0));
    const reader = new Blob([bytes]).stream().pipeThrough(new DecompressionStream('deflate-raw')).getReader();
    const decoder = new TextDecoder('utf-8', { fatal: true });
    let size = 0, text = '';
    for (let part = await reader.read(); !part.done; part = await reader.read()) {
      size += part.value.length;
      if (size > MOST) {
        reader.cancel().catch(() => {});
        throw new RangeError(`It becomes more than ${MOST / 1e6} MB`);
      }
      text += decoder.decode(part.value, { stream: true });
    }
    return text + decoder.decode();
  } catch (error) {
    throw error instanceof RangeError ? error : new Error('It was cut off or changed on its way');
  }
};
