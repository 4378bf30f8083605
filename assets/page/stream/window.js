// Which texts of the server's are this window's: those it had before it was loaded again, or, where it is opened anew, those of
// a window that was closed. The server knows them by the key of its feed. A lock says that a window has them, so that no other
// takes them; browsers have locks over HTTPS and on this machine, and elsewhere a closed window's texts are not looked for.
import { isReload, keep, kept, search } from '../share/storage.js';

const LEFT = 'citer-left', MOST = 8, PATIENCE = 2000;   // keys in the browser; milliseconds, until the page before has let go
const { locks } = navigator;

// Takes the lock of a key for as long as this page lasts; whether that is so.
const take = (key, options) => new Promise((done) => {
  locks.request(`citer-${key}`, options, (lock) => {
    done(lock !== null);
    return lock && new Promise(() => {});
  }).catch(() => done(false));
});

const left = () => {
  try { return JSON.parse(localStorage.getItem(LEFT) ?? '[]').map(String); } catch { return []; }
};

export let former = '';   // what was found
let held = '';            // whose lock this page has

const find = async () => {
  const own = kept('key');
  if (own) return !locks || await take(own, { signal: AbortSignal.timeout(PATIENCE) }) ? own : '';
  if (!locks || isReload() || search() || location.hash) return '';
  for (const key of left()) if (await take(key, { ifAvailable: true })) return key;
  return '';
};

export const formerKey = async () => {
  former = held = await find().catch(() => '');
  return [former];
};

// Has the browser remember the key of this window's texts, the newest first.
export const remember = (key) => {
  keep('key', key);
  if (key !== held && locks) take(key, {});
  held = key;
  try { localStorage.setItem(LEFT, JSON.stringify([key, ...left().filter((other) => other !== key)].slice(0, MOST))); } catch { /* forbidden: a closed window's are not found */ }
};
