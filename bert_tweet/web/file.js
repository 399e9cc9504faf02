// The page in a file of its own: the view of what it holds.

const held = JSON.parse(document.getElementById("data").textContent);
language.start();
showView(document.getElementById("view"), held);
