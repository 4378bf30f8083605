// The buttons for help and theme. A chosen theme is remembered; without a choice the page follows the system, as gradio does.
import { openTab } from '../lib/tabs.js';

const KEY = 'citer-theme';
const remembered = () => { try { return localStorage.getItem(KEY); } catch { return null; } };
const apply = (dark) => document.body.classList.toggle('dark', dark);

// Gradio's loading sign requests one frame after the other, even after it is gone (6.31). An idle page would be drawn sixty times a
// second, and take the processor from the models. Handles of frames count up, so if half a second long each frame has exactly one
// other callback, it is that sign's, and it is cancelled. A program that drives the browser may wait by frames of its own, which
// nobody can tell from gradio's; `start` spares it.
const ENOUGH = 30;   // frames
const endIdleFrames = () => {
  let last = 0, alike = 0, left = 40 * ENOUGH;
  const look = () => {
    if (left-- === 0) return;
    const handle = requestAnimationFrame(look);
    alike = handle === last + 2 ? alike + 1 : 0;
    last = handle;
    if (alike > ENOUGH) [handle, handle - 1].forEach((each) => cancelAnimationFrame(each));   // this frame's own callback, and the sign's
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
