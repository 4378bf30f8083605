// Finds this window's texts on the server, by the key of their feed. A reloaded window has its own texts; a new window takes those of a
// closed one. Each window holds a lock on its key, so that no other window takes its texts. Browsers have locks over HTTPS and on the
// same machine; elsewhere a closed window's texts are not looked for.
import { isReload, keep, kept, search } from '../share/storage.js';

const LEFT = 'citer-left', MOST = 8, PATIENCE = 2000;   // number of keys; milliseconds until the page before the reload has released its lock
const { locks } = navigator;

// Takes a key's lock until this page ends, and resolves to whether that worked.
const take = (key, options) => new Promise((done) => {
  locks.request(`citer-${key}`, options, (lock) => {
    done(lock !== null);
    return lock && new Promise(() => {});
  }).catch(() => done(false));
});

const leftKeys = () => {
  try { return JSON.parse(localStorage.getItem(LEFT) ?? '[]').map(String); } catch { return []; }
};

export let former = '';   // the key that was found
let held = '';            // the key whose lock this page has

const findKey = async () => {
  const own = kept('key');
  if (own) return !locks || await take(own, { signal: AbortSignal.timeout(PATIENCE) }) ? own : '';
  if (!locks || isReload() || search() || location.hash) return '';
  for (const key of leftKeys()) if (await take(key, { ifAvailable: true })) return key;
  return '';
};

export const formerKey = async () => {
  former = held = await findKey().catch(() => '');
  return [former];
};

export const remember = (key) => {
  keep('key', key);
  if (key !== held && locks) take(key, {});
  held = key;
  try { localStorage.setItem(LEFT, JSON.stringify([key, ...leftKeys().filter((other) => other !== key)].slice(0, MOST))); } catch { /* forbidden: a closed window is not found */ }
};
