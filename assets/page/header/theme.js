// Opens "How it works", and switches between light and dark and remembers it; without a choice the page follows the system, as gradio does.
import { openTab } from '../lib/tabs.js';

const KEY = 'citer-theme';
const remembered = () => { try { return localStorage.getItem(KEY); } catch { return null; } };
const apply = (dark) => document.body.classList.toggle('dark', dark);

// Gradio's loading sign asks for frame after frame, and goes on when it is gone (6.31): a page that does nothing is drawn
// sixty times a second, beside models that need the processor. Where exactly one other callback has come with each frame
// for half a second, it is that one. A program that drives the browser waits by frames of its own, in which it looks for
// something: nobody can tell those from gradio's, and ending them would let it wait for ever.
const ENOUGH = 30;
const endIdleFrames = () => {
  let last = 0, alike = 0, left = 40 * ENOUGH;
  const look = () => {
    if (left-- === 0) return;
    const now = requestAnimationFrame(look);
    alike = now === last + 2 ? alike + 1 : 0;   // handles are counted up: one other callback since
    last = now;
    if (alike > ENOUGH) [now, now - 1].forEach((handle) => cancelAnimationFrame(handle));   // of this frame: had a panel asked too, it were two
  };
  look();
};

export const start = ({ element }) => {
  if (remembered()) apply(remembered() === 'dark');
  element.querySelector('.help-open').addEventListener('click', () => openTab('How it works'));
  element.querySelector('.theme-toggle').addEventListener('click', () => {
    const dark = !document.body.classList.contains('dark');
    apply(dark);
    try { localStorage.setItem(KEY, dark ? 'dark' : 'light'); } catch { /* private windows forget it */ }
  });
  if (!navigator.webdriver) endIdleFrames();
};
