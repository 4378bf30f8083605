// On a first visit the slider plays once through the recorded texts: from the large model alone to its starting position.
const WAIT = 1200, LASTS = 4000, LONGEST = 100, KEY = 'citer-played';   // milliseconds: before it plays, of the play, of a frame at most; key in localStorage

const isNew = () => {
  try {
    const value = localStorage.getItem(KEY);
    localStorage.setItem(KEY, '1');
    return value === null;
  } catch {
    return false;   // without storage it would play at every visit
  }
};

// Plays and returns true, or returns false. `put(place, isOver)` moves the slider. A click or a key ends it; on the slider itself, at the
// visitor's position.
export const playOnce = (from, to, put) => {
  if (matchMedia('(prefers-reduced-motion: reduce)').matches || location.hash.length > 1 || location.search || !isNew()) return false;
  let played = -WAIT, last = null, frame = 0;
  const end = () => {
    cancelAnimationFrame(frame);
    for (const type of ['pointerdown', 'keydown']) removeEventListener(type, stop, true);
    put(to, true);
  };
  const stop = ({ target }) => {
    if (target.id === 'balance') to = Number(target.value);
    end();
  };
  const step = (now) => {
    played += Math.min(LONGEST, now - (last ?? now));   // late frames make it slower, and leave nothing out
    last = now;
    const part = Math.min(1, Math.max(0, played / LASTS)), eased = part * part * (3 - 2 * part);
    frame = requestAnimationFrame(step);
    if (played >= 0) put(Math.round(from + (to - from) * eased), false);
    if (part === 1) end();
  };
  for (const type of ['pointerdown', 'keydown']) addEventListener(type, stop, true);
  frame = requestAnimationFrame(step);
  return true;
};
