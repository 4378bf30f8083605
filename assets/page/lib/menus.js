// A menu is a <details class="menu">. It closes at a click elsewhere, and at Escape, which then stops no text.
const opened = () => document.querySelector('details.menu[open]');

document.addEventListener('pointerdown', ({ target }) => { if (!opened()?.contains(target)) opened()?.removeAttribute('open'); });
document.addEventListener('keydown', (event) => {
  const menu = event.key === 'Escape' && opened();
  if (!menu) return;
  event.preventDefault();
  menu.open = false;
  menu.firstElementChild.focus();
}, true);
