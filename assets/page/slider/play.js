// On arrival the slider plays once through the recorded texts, in place of a tour: from the large model alone to where it starts.
const WAIT = 1200, LASTS = 4000, LONGEST = 50, KEY = 'citer-played';   // milliseconds, of a frame too; of this browser's storage

const isNew = () => {
  try {
    const before = localStorage.getItem(KEY);
    localStorage.setItem(KEY, '1');
    return before === null;
  } catch {
    return false;   // it could not be remembered, and would play each time
  }
};

// Returns whether it plays. `put(place, isOver)` moves the slider; a hand on anything ends it, on the slider itself where it is.
export const playOnce = (last, to, put) => {
  if (matchMedia('(prefers-reduced-motion: reduce)').matches || location.hash.length > 1 || location.search || !isNew()) return false;
  let played = -WAIT, before = null, frame = 0;
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
    played += Math.min(LONGEST, now - (before ?? now));   // where frames come late it plays slower, and leaves nothing out
    before = now;
    const part = Math.min(1, Math.max(0, played / LASTS)), eased = part * part * (3 - 2 * part);
    frame = requestAnimationFrame(step);
    if (played >= 0) put(Math.round(last + (to - last) * eased), false);
    if (part === 1) end();
  };
  for (const type of ['pointerdown', 'keydown']) addEventListener(type, stop, true);
  frame = requestAnimationFrame(step);
  return true;
};
