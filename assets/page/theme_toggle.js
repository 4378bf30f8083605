// Switches between light and dark and remembers it; without a choice the page follows the system, as gradio does.
const KEY = 'citer-theme';
const remembered = () => { try { return localStorage.getItem(KEY); } catch { return null; } };
const apply = (dark) => document.body.classList.toggle('dark', dark);

if (remembered()) apply(remembered() === 'dark');
element.querySelector('button').addEventListener('click', () => {
  const dark = !document.body.classList.contains('dark');
  apply(dark);
  try { localStorage.setItem(KEY, dark ? 'dark' : 'light'); } catch { /* private windows forget it */ }
});
