// Menus are <details class="menu">: one closes at a click elsewhere, and at Escape, which then stops nothing.
const opened = () => document.querySelector('details.menu[open]');

document.addEventListener('pointerdown', ({ target }) => { if (!opened()?.contains(target)) opened()?.removeAttribute('open'); });
document.addEventListener('keydown', (event) => {
  const menu = event.key === 'Escape' && opened();
  if (!menu) return;
  event.preventDefault();
  menu.open = false;
  menu.firstElementChild.focus();
}, true);
